"""Looks at repositories without fetching them: info, trees, refs, history, lists and searches."""

from expect import TINY, done, files
from huggingface_hub import HfApi

api = HfApi()
expected = files(TINY)
info = api.model_info(TINY, files_metadata=True)
assert len(info.sha) == 40 and not info.private, info
assert {s.rfilename: s.size for s in info.siblings} == {p: len(d) for p, d in expected.items()}, info.siblings
assert api.model_info(TINY, revision=info.sha).sha == info.sha
tree = list(api.list_repo_tree(TINY, recursive=True))
assert {f.path: f.size for f in tree if hasattr(f, "size")} == {p: len(d) for p, d in expected.items()}
assert any(f.path == "onnx/sub dir" for f in tree if not hasattr(f, "size"))
below = list(api.list_repo_tree(TINY, path_in_repo="onnx/sub dir", expand=True))
assert [f.path for f in below] == ["onnx/sub dir/a,b+c.txt"], below
some = api.get_paths_info(TINY, ["config.json", "absent", "onnx"])
assert sorted(f.path for f in some) == ["config.json", "onnx"], some
refs = api.list_repo_refs(TINY)
assert [(b.name, b.target_commit) for b in refs.branches] == [("main", info.sha)], refs
assert api.list_repo_commits(TINY)[0].commit_id == info.sha
assert api.file_exists(TINY, "config.json") and not api.file_exists(TINY, "absent.json")
assert api.repo_exists(TINY)
assert api.dataset_info("acme/rows").sha
assert api.space_info("acme/app").sha
assert TINY in [m.id for m in api.list_models(search="tin")]
assert TINY in [m.id for m in api.list_models(author="acme", limit=5)]
assert "acme/rows" in [d.id for d in api.list_datasets(search="rows")]
assert not list(api.list_models(search="no such model"))
done()
