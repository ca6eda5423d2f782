"""What `flowpaint models` says and does, as plain values: the known weights, their licences, fetching and verifying them."""

from typing import Any

from ..weights import DEFAULT_POLICY, Entry, Policy, download, entry, file_hash, inventory, is_weights, keeping, verify


def models(*, commercial_only: bool = False) -> list[dict[str, Any]]:
    """All weights that flowpaint knows: name, role, family, licence, size in bytes, source, and where they are if here.

    `commercial_only` leaves out those whose licence is not known to allow commercial use. Nothing is fetched.
    """
    return [_plain(one) for one in _chosen(commercial_only)]


def model_licences(*, commercial_only: bool = False) -> list[dict[str, Any]]:
    """The licence of each set of weights: its name, where its text is, whether it allows commercial use, and on what terms."""
    return [
        {
            "name": one.name,
            "licence": one.licence.name,
            "text": one.licence.text,
            "commercial": one.licence.commercial,
            "terms": one.licence.terms,
            "says": one.says,
        }
        for one in _chosen(commercial_only)
    ]


def download_model(name: str, *, policy: Policy = DEFAULT_POLICY) -> dict[str, Any]:
    """Where the known weights called `name` are, fetched if need be: folder, revision, licence and the hash of each file.

    Raises `ConfigError` for a name that is not in the list, `WeightsError` where they are not to be had, `LicenceError` where
    `policy` forbids their use.
    """
    with keeping(policy):
        path = download(name)
    found = entry(name)
    folder = path if path.is_dir() else path.parent
    files = sorted(one for one in path.rglob("*") if is_weights(one)) if path.is_dir() else [path]
    return {
        "name": found.name,
        "source": found.source,
        "revision": folder.name if folder.parent.name == "snapshots" else "",
        "licence": found.licence.name,
        "path": str(path),
        "sha256": {one.relative_to(folder).as_posix(): file_hash(one) for one in files},
    }


def verify_models(name: str | None = None) -> dict[str, dict[str, str]]:
    """Each file of the weights called `name`, or of all that are here, with "ok", "wrong" or "unchecked", by name of the set.

    Raises `ConfigError` for an unknown name, `WeightsError` where that set is not here.
    """
    chosen = [entry(name)] if name is not None else [one for one in inventory() if one.path is not None]
    return {one.name: dict(verify(one)) for one in chosen}


def _chosen(commercial_only: bool) -> list[Entry]:
    return [one for one in inventory() if one.licence.commercial or not commercial_only]


def _plain(one: Entry) -> dict[str, Any]:
    return {
        "name": one.name,
        "role": one.role,
        "family": one.family,
        "licence": one.licence.name,
        "commercial": one.licence.commercial,
        "size": one.size,
        "source": one.source,
        "here": one.path is not None,
        "path": None if one.path is None else str(one.path),
        "says": one.says,
    }
