//! How a conversation is written for a model, in the Go templates that ollama takes.
//!
//! A GGUF file says it in Jinja, which ollama does not run. Models agree on a few forms, told apart by their marks;
//! what is in none of these forms is left to ollama.

/// A form of conversation.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Form {
    /// All of these stand in the Jinja template.
    marks: &'static [&'static str],
    /// The same as a Go template.
    pub(crate) template: &'static str,
    /// Where the model's turn ends.
    pub(crate) stop: &'static [&'static str],
}

/// The form of a Jinja template; the first that fits.
pub(crate) fn of(jinja: &str) -> Option<&'static Form> {
    FORMS.iter().find(|form| form.marks.iter().all(|mark| jinja.contains(mark)))
}

const FORMS: &[Form] = &[
    Form {
        marks: &["<|im_start|>", "<|im_end|>"],
        template: "{{ if .System }}<|im_start|>system\n{{ .System }}<|im_end|>\n{{ end }}\
                   {{ if .Prompt }}<|im_start|>user\n{{ .Prompt }}<|im_end|>\n{{ end }}\
                   <|im_start|>assistant\n{{ .Response }}<|im_end|>\n",
        stop: &["<|im_start|>", "<|im_end|>"],
    },
    Form {
        marks: &["<|start_header_id|>", "<|eot_id|>"],
        template: "{{ if .System }}<|start_header_id|>system<|end_header_id|>\n\n{{ .System }}<|eot_id|>{{ end }}\
                   {{ if .Prompt }}<|start_header_id|>user<|end_header_id|>\n\n{{ .Prompt }}<|eot_id|>{{ end }}\
                   <|start_header_id|>assistant<|end_header_id|>\n\n{{ .Response }}<|eot_id|>",
        stop: &["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
    },
    Form {
        marks: &["<start_of_turn>", "<end_of_turn>"],
        template: "<start_of_turn>user\n{{ if .System }}{{ .System }}\n\n{{ end }}{{ .Prompt }}<end_of_turn>\n\
                   <start_of_turn>model\n{{ .Response }}<end_of_turn>\n",
        stop: &["<start_of_turn>", "<end_of_turn>"],
    },
    Form {
        marks: &["<｜User｜>", "<｜Assistant｜>"],
        template: "{{ if .System }}{{ .System }}{{ end }}{{ if .Prompt }}<｜User｜>{{ .Prompt }}{{ end }}\
                   <｜Assistant｜>{{ .Response }}<｜end▁of▁sentence｜>",
        stop: &["<｜User｜>", "<｜end▁of▁sentence｜>"],
    },
    Form {
        marks: &["<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>"],
        template: "{{ if .System }}<|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|>{{ .System }}<|END_OF_TURN_TOKEN|>{{ end }}\
                   {{ if .Prompt }}<|START_OF_TURN_TOKEN|><|USER_TOKEN|>{{ .Prompt }}<|END_OF_TURN_TOKEN|>{{ end }}\
                   <|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>{{ .Response }}<|END_OF_TURN_TOKEN|>",
        stop: &["<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>"],
    },
    Form {
        marks: &["[INST]", "<<SYS>>"],
        template: "[INST] {{ if .System }}<<SYS>>\n{{ .System }}\n<</SYS>>\n\n{{ end }}{{ .Prompt }} [/INST] \
                   {{ .Response }}</s>",
        stop: &["[INST]", "[/INST]", "<<SYS>>", "<</SYS>>"],
    },
    Form {
        marks: &["[INST]"],
        template: "[INST] {{ if .System }}{{ .System }}\n\n{{ end }}{{ .Prompt }} [/INST] {{ .Response }}</s>",
        stop: &["[INST]", "[/INST]"],
    },
    Form {
        marks: &["<|end|>"],
        template: "{{ if .System }}<|system|>\n{{ .System }}<|end|>\n{{ end }}\
                   {{ if .Prompt }}<|user|>\n{{ .Prompt }}<|end|>\n{{ end }}\
                   <|assistant|>\n{{ .Response }}<|end|>\n",
        stop: &["<|end|>", "<|user|>", "<|assistant|>"],
    },
    Form {
        marks: &["<|user|>", "eos_token"],
        template: "{{ if .System }}<|system|>\n{{ .System }}</s>\n{{ end }}\
                   {{ if .Prompt }}<|user|>\n{{ .Prompt }}</s>\n{{ end }}\
                   <|assistant|>\n{{ .Response }}</s>\n",
        stop: &["<|system|>", "<|user|>", "<|assistant|>", "</s>"],
    },
    Form {
        marks: &["### Instruction:"],
        template: "{{ if .System }}{{ .System }}\n\n{{ end }}\
                   {{ if .Prompt }}### Instruction:\n{{ .Prompt }}\n\n{{ end }}### Response:\n{{ .Response }}\n\n",
        stop: &["### Instruction:", "### Response:"],
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_known_by_their_marks() {
        let chatml = "{% for m in messages %}{{ '<|im_start|>' + m.role }}{{ '<|im_end|>' }}{% endfor %}";
        assert_eq!(of(chatml).unwrap().stop, ["<|im_start|>", "<|im_end|>"]);
        assert!(of("[INST] <<SYS>>").unwrap().template.contains("<<SYS>>"));
        assert!(!of("[INST]").unwrap().template.contains("<<SYS>>"));
        assert_eq!(of("{{ messages }}"), None);
    }

    /// Ollama refuses a template that does not parse: each `if` has its `end`, each brace its other.
    #[test]
    fn templates_are_closed() {
        for form in FORMS {
            let count = |what| form.template.matches(what).count();
            assert_eq!(count("{{ if "), count("{{ end }}"), "{}", form.template);
            assert_eq!(count("{{"), count("}}"), "{}", form.template);
            assert!(form.template.contains("{{ .Prompt }}") && form.template.contains("{{ .Response }}"));
        }
    }
}
