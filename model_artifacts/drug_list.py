"""A list of one drug: its codes, ATC groups and names, read from a TOML file of the model's folder.

A drug is recognised by RxNorm or other codes exactly, by ATC with everything below, else by whole words of its name, for
many senders code nothing but a product or only write words. Two drugs' names are never taken apart further: "no warfarin"
names warfarin, so a caller that cares about negations must look at statuses.

To add a drug: a file with `codes` ([{system, code, display}]), `atc` and `names`.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from fhir_adapters.codes import ATC, Code
from model_artifacts.errors import ManifestError


class NamedDrug(Protocol):
    """Whatever has a drug's codes and its name in words."""

    @property
    def codes(self) -> tuple[Code, ...]: ...

    @property
    def text(self) -> str: ...


@dataclass(frozen=True, slots=True)
class DrugList:
    """The codes, ATC groups and names of one drug or one group of drugs."""

    codes: frozenset[Code]
    atc: tuple[str, ...]
    names: re.Pattern[str]

    def has(self, drug: NamedDrug) -> bool:
        """Whether the drug is on the list."""
        if any(code in self.codes or (code.system == ATC and code.code.startswith(self.atc)) for code in drug.codes):
            return True
        words = " / ".join((drug.text, *(code.display for code in drug.codes)))
        return self.names.search(words) is not None


def make_drug_list(content: Mapping[str, Any]) -> DrugList:
    """The list from a table with `codes`, `atc` and `names`.

    Raises:
        KeyError: a member is missing.
    """
    codes = frozenset(Code(item["system"], item["code"], item.get("display", "")) for item in content["codes"])
    words = "|".join(re.escape(name) for name in content["names"])
    return DrugList(codes, tuple(content["atc"]), re.compile(rf"\b(?:{words})\b", re.IGNORECASE))


@lru_cache(maxsize=64)
def read_drug_list(path: Path) -> DrugList:
    """The list in a TOML file.

    Raises:
        ManifestError: the file is missing or not such a list.
    """
    try:
        return make_drug_list(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, tomllib.TOMLDecodeError, KeyError) as exc:
        raise ManifestError(f"drug list {path.name}: {type(exc).__name__}") from exc
