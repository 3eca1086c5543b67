//! Makes up repositories as they are on a hub: few owners have many, names tell family, size and kind of tuning, counts
//! fall off steeply, tags are many and mostly common.

use std::collections::HashSet;

use hubless_types::{Access, RepoFacts, RepoId, RepoKind, Timestamp};

const FAMILIES: [&str; 40] = [
    "bert",
    "roberta",
    "distilbert",
    "Llama-2",
    "Llama-3.1",
    "Llama-3.2",
    "Qwen2.5",
    "Qwen3",
    "Mistral",
    "Mixtral",
    "gemma-2",
    "gemma-3",
    "phi-3",
    "gpt2",
    "t5",
    "flan-t5",
    "whisper",
    "wav2vec2",
    "vit",
    "clip",
    "stable-diffusion",
    "sdxl",
    "flux",
    "lora",
    "DeepSeek-R1",
    "DeepSeek-V3",
    "SmolLM2",
    "falcon",
    "opt",
    "bloom",
    "pythia",
    "mamba",
    "xlm-roberta",
    "deberta-v3",
    "electra",
    "bart",
    "yolo",
    "sam2",
    "ppo-LunarLander",
    "qlora-adapter",
];
const SIZES: [&str; 14] =
    ["base", "large", "small", "tiny", "7b", "8B", "13b", "70B", "1.5B", "0.5B", "3B", "32B", "xl", "mini"];
const TUNINGS: [&str; 24] = [
    "instruct",
    "chat",
    "finetuned",
    "GGUF",
    "GPTQ",
    "AWQ",
    "4bit",
    "8bit",
    "sft",
    "dpo",
    "merged",
    "emotion",
    "squad",
    "ner",
    "imdb",
    "cnn-dailymail",
    "french",
    "german",
    "chinese",
    "code",
    "math",
    "reasoning",
    "v2",
    "uncensored",
];
const TOPICS: [&str; 20] = [
    "wiki",
    "reviews",
    "tweets",
    "medical",
    "legal",
    "finance",
    "images",
    "speech",
    "instructions",
    "preferences",
    "trajectories",
    "so100",
    "eval-results",
    "arxiv",
    "books",
    "news",
    "code-search",
    "qa",
    "synthetic",
    "faces",
];
const TASKS: [&str; 16] = [
    "text-generation",
    "text-classification",
    "token-classification",
    "question-answering",
    "fill-mask",
    "text-to-image",
    "image-classification",
    "automatic-speech-recognition",
    "translation",
    "summarization",
    "feature-extraction",
    "sentence-similarity",
    "reinforcement-learning",
    "object-detection",
    "text-to-speech",
    "image-text-to-text",
];
const LIBRARIES: [&str; 8] = [
    "transformers",
    "diffusers",
    "peft",
    "sentence-transformers",
    "timm",
    "stable-baselines3",
    "mlx",
    "keras",
];
const LICENSES: [&str; 8] =
    ["apache-2.0", "mit", "openrail", "llama3.1", "cc-by-nc-4.0", "cc-by-4.0", "gemma", "other"];
const LANGUAGES: [&str; 12] =
    ["en", "zh", "fr", "de", "es", "ja", "ko", "ru", "ar", "hi", "pt", "multilingual"];
const SYLLABLES: [&str; 32] = [
    "al", "an", "ber", "cha", "da", "el", "fo", "gra", "ha", "in", "jo", "ka", "lu", "ma", "ni", "or", "pe",
    "qi", "ro", "sa", "ti", "un", "vi", "wo", "xi", "yu", "zo", "the", "mo", "ren", "lab", "ai",
];

/// Numbers that look random and are the same each time (splitmix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.roll() % n
    }

    /// Below `n`, the small ones far more often.
    fn steep(&mut self, n: u64) -> u64 {
        let unit = (self.roll() >> 11) as f64 / (1_u64 << 53) as f64;
        ((n as f64).powf(unit) - 1.0) as u64
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn pick(&mut self, from: &[&'static str]) -> &'static str {
        from[self.below(from.len() as u64) as usize]
    }

    fn often(&mut self, from: &[&'static str]) -> &'static str {
        from[self.steep(from.len() as u64) as usize]
    }
}

/// Owners.
const OWNERS: u64 = 900_000;

/// Makes one repository after the other, none twice.
pub(super) struct Maker {
    dice: Dice,
    seen: HashSet<u64>,
}

impl Maker {
    pub(super) fn new() -> Self {
        Self { dice: Dice(42), seen: HashSet::new() }
    }

    /// The next repository and what is said of it.
    pub(super) fn next_repo(&mut self) -> (RepoId, RepoFacts) {
        loop {
            let kind = match self.dice.below(100) {
                0..60 => RepoKind::Model,
                60..78 => RepoKind::Dataset,
                _ => RepoKind::Space,
            };
            let name = format!("{}/{}", self.owner(), self.name(kind));
            let Ok(repo) = RepoId::new(kind, &name) else { continue };
            let hash = blake3::hash(repo.to_string().as_bytes());
            let first = u64::from_le_bytes(hash.as_bytes()[..8].try_into().unwrap_or_default());
            if self.seen.insert(first) {
                return (repo, self.facts(kind));
            }
        }
    }

    fn owner(&mut self) -> String {
        // Half of all belong to few.
        let n = if self.dice.chance(50) { self.dice.steep(OWNERS) } else { self.dice.below(OWNERS) };
        let mut own = Dice(n);
        let mut text: String = (0..2 + own.below(3)).map(|_| own.pick(&SYLLABLES)).collect();
        match own.below(4) {
            0 => text = format!("{text}{}", n % 9973),
            1 => text.make_ascii_uppercase(),
            2 => text = format!("{text}-{}", own.pick(&SYLLABLES)),
            _ => {}
        }
        format!("{text}{}", n % 97)
    }

    fn name(&mut self, kind: RepoKind) -> String {
        let dice = &mut self.dice;
        let mut name = match kind {
            RepoKind::Dataset => format!("{}_{}", dice.pick(&TOPICS), dice.often(&TUNINGS)),
            _ => format!("{}-{}", dice.often(&FAMILIES), dice.pick(&SIZES)),
        };
        for _ in 0..dice.below(3) {
            name = format!("{name}-{}", dice.often(&TUNINGS));
        }
        match dice.below(4) {
            0 => format!("{name}_{:08x}", dice.roll() as u32),
            1 => format!("{name}-v{}", dice.below(30)),
            2 => format!("{name}-checkpoint-{}", dice.below(400) * 50),
            _ => format!("{name}-{}", dice.pick(&SYLLABLES)),
        }
    }

    fn facts(&mut self, kind: RepoKind) -> RepoFacts {
        let dice = &mut self.dice;
        let created = 1_646_000_000 + dice.below(130_000_000);
        let task = dice.chance(60).then(|| dice.often(&TASKS).to_owned());
        let library = (kind == RepoKind::Model && dice.chance(70)).then(|| dice.often(&LIBRARIES).to_owned());
        let mut tags = vec!["region:us".to_owned()];
        tags.extend(library.clone());
        tags.extend(task.clone());
        let mut maybe = |percent, tag: &mut dyn FnMut(&mut Dice) -> String| {
            if dice.chance(percent) {
                tags.push(tag(dice));
            }
        };
        maybe(45, &mut |d| format!("license:{}", d.often(&LICENSES)));
        maybe(40, &mut |d| d.often(&LANGUAGES).to_owned());
        match kind {
            RepoKind::Model => {
                maybe(65, &mut |_| "safetensors".into());
                maybe(40, &mut |_| "pytorch".into());
                maybe(30, &mut |_| "endpoints_compatible".into());
                maybe(12, &mut |_| "gguf".into());
                maybe(50, &mut |d| d.often(&FAMILIES).to_lowercase());
                maybe(35, &mut |d| format!("base_model:owner{}/{}", d.steep(40_000), d.often(&FAMILIES)));
                maybe(20, &mut |d| format!("dataset:owner{}/{}", d.steep(60_000), d.pick(&TOPICS)));
                maybe(15, &mut |d| format!("arxiv:{}.{:05}", 1900 + d.steep(700), d.steep(20_000)));
                maybe(30, &mut |_| "generated_from_trainer".into());
            }
            RepoKind::Dataset => {
                maybe(70, &mut |d| format!("size_categories:{}K<n<{}K", 1 << d.below(4), 10 << d.below(4)));
                maybe(70, &mut |d| format!("format:{}", d.pick(&["parquet", "csv", "json", "text"])));
                maybe(80, &mut |_| "library:datasets".into());
            }
            RepoKind::Space => {
                maybe(90, &mut |d| d.pick(&["gradio", "streamlit", "docker", "static"]).into())
            }
        }
        let card = dice.chance(50).then(|| {
            format!("{{\"license\":\"{}\",\"language\":[\"en\"],\"base_model\":\"owner/{}\",\"model-index\":[{{\"name\":\"m{}\",\"results\":[]}}]}}", dice.often(&LICENSES), dice.often(&FAMILIES), dice.below(1 << 40))
        });
        RepoFacts {
            access: match dice.below(100) {
                0..96 => Access::Open,
                96..98 => Access::GatedAuto,
                _ => Access::GatedManual,
            },
            tags,
            pipeline_tag: task,
            library_name: library,
            card,
            downloads: dice.steep(100_000_000),
            likes: dice.steep(15_000) / 3,
            created: Timestamp(created),
            modified: Timestamp(created + dice.below(1_776_000_001 - created)),
        }
    }
}
