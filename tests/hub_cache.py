"""A stand-in for the cache of huggingface_hub: blobs named by their hashes, and a snapshot of links to them."""

import hashlib
from pathlib import Path

REVISION = "0123456789abcdef0123456789abcdef01234567"


def keep(cache: Path, repository: str, folder: Path, revision: str = REVISION) -> Path:
    """The snapshot of `repository` with the files of `folder`, in the hub's cache at `cache`: weights are large files."""
    home = cache / f"models--{repository.replace('/', '--')}"
    (home / "refs").mkdir(parents=True)
    (home / "refs" / "main").write_text(revision)
    (home / "blobs").mkdir()
    snapshot = home / "snapshots" / revision
    for file in sorted(one for one in folder.rglob("*") if one.is_file()):
        content = file.read_bytes()
        if file.suffix in (".safetensors", ".bin"):
            name = hashlib.sha256(content).hexdigest()
        else:
            name = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        (home / "blobs" / name).write_bytes(content)
        link = snapshot / file.relative_to(folder)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(home / "blobs" / name)
    return snapshot
