"""Licences of weights: what each is called, where its text is, and whether it allows commercial use."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Licence:
    """A licence by its SPDX identifier, or by the name that it gives itself.

    `commercial` is None where nobody but the owner of the weights can know; `terms` says on what conditions.
    """

    name: str
    commercial: bool | None
    text: str = ""  # where it can be read
    terms: str = ""

    def __str__(self) -> str:
        return self.name

    @property
    def allows(self) -> str:
        """Whether commercial use is allowed, in words."""
        if self.commercial is None:
            return "not known"
        return "yes" + (f", {self.terms}" if self.terms else "") if self.commercial else f"no: {self.terms}"


_RESTRICTED = "but for none of the uses that its attachment A forbids; whoever passes it on passes these on"

APACHE = Licence(name="Apache-2.0", commercial=True, text="https://www.apache.org/licenses/LICENSE-2.0")
MIT = Licence(name="MIT", commercial=True, text="https://opensource.org/license/mit")
BSD_2 = Licence(name="BSD-2-Clause", commercial=True, text="https://opensource.org/license/bsd-2-clause")
BSD_3 = Licence(name="BSD-3-Clause", commercial=True, text="https://opensource.org/license/bsd-3-clause")
OPENRAIL_M = Licence(
    name="CreativeML OpenRAIL-M",
    commercial=True,
    text="https://github.com/CompVis/stable-diffusion/blob/main/LICENSE",
    terms=_RESTRICTED,
)
OPENRAIL_PLUS_M = Licence(
    name="CreativeML OpenRAIL++-M",
    commercial=True,
    text="https://github.com/Stability-AI/stablediffusion/blob/main/LICENSE-MODEL",
    terms=_RESTRICTED,
)
NOT_STATED = Licence(name="not stated", commercial=False, terms="where the weights are published, no licence of them is stated")
UNKNOWN = Licence(name="unknown", commercial=False, terms="flowpaint does not know these weights; their own page may say more")
OWN = Licence(name="not known", commercial=None)  # a file or folder of the user's own
