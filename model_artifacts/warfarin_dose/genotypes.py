"""CYP2C9 and VKORC1 genotypes from FHIR Observations, in whichever of four ways a laboratory reports them.

HL7 Genomics Reporting Implementation Guide (STU2, https://hl7.org/fhir/uv/genomics-reporting/):
 1. Genotype (LOINC 84413-4): the value names the gene and "*1/*3", or "rs9923231 A/G"; the gene may stand in the component
    "gene studied" (48018-6), the SNP in the component "dbSNP ID" (81255-2);
 2. Variant (69548-6): present (LA9633-4) with its zygosity (53034-5), or absent (LA9634-2), for a dbSNP ID;
 3. CYP2C9 metaboliser phenotype (79716-7): "normal" means *1/*1; any other fits several genotypes and names none;
 4. the two SNPs of CYP2C9 make a diplotype: rs1799853 is *2, rs1057910 is *3; both must be known.

VKORC1 is rs9923231 (-1639G>A). Its gene lies on the minus strand: G and A there are C and T in dbSNP's notation, and both
are read. A genotype doesn't age, so the newest isn't better than another: results that disagree leave it unknown. What is not
final is not read. Linked SNPs are not read in its place: how closely they are linked differs between populations.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from fhir_adapters.codes import LOINC, Code, keys
from fhir_adapters.mappings.observation import FINAL, ObservedValue
from fhir_adapters.reasons import Reason
from fhir_adapters.record import PatientRecord
from model_artifacts.inputs import Evidence
from model_artifacts.warfarin_dose.columns import CYP2C9, VKORC1

GENOTYPE = Code(LOINC, "84413-4", "Genotype display name")
VARIANT = Code(LOINC, "69548-6", "Genetic variant assessment")
PHENOTYPE = Code(LOINC, "79716-7", "CYP2C9 gene product metabolic activity interpretation")
CODES = (GENOTYPE, VARIANT, PHENOTYPE)

_ABSENT = "LA9634-2"
_COPIES: Mapping[str, int] = {"LA6706-1": 1, "LA6705-3": 2}  # heterozygous, homozygous
_NORMAL = "LA25391-6"
_STARS = re.compile(r"\*(\d{1,2})\s*/\s*\*(\d{1,2})(?!\d)")
_LETTERS = re.compile(r"(?<![A-Za-z*])([ACGT])\s*[/|]\s*([ACGT])(?![A-Za-z])")
_PROMOTER = re.compile(r"rs9923231\b|-1639\s*G\s*>\s*A", re.IGNORECASE)
_SNPS = ("rs9923231", "rs1799853", "rs1057910")
# The letter counted for each SNP, on either strand.
_COUNTED: Mapping[str, frozenset[str]] = {
    "rs9923231": frozenset("AT"),
    "rs1799853": frozenset("TA"),
    "rs1057910": frozenset("CG"),
}
_PAIRS: Mapping[str, tuple[frozenset[str], ...]] = {
    "rs9923231": (frozenset("GA"), frozenset("CT")),
    "rs1799853": (frozenset("CT"), frozenset("GA")),
    "rs1057910": (frozenset("AC"), frozenset("TG")),
}
_DIPLOTYPES = {(0, 0): "*1/*1", (1, 0): "*1/*2", (0, 1): "*1/*3", (2, 0): "*2/*2", (1, 1): "*2/*3", (0, 2): "*3/*3"}
_LABELS = {"cyp2c9": "CYP2C9 genotype", "vkorc1": "VKORC1 genotype (rs9923231)"}


@dataclass(frozen=True, slots=True)
class _Said:
    """What one Observation says: a genotype, a number of copies of a SNP's counted letter, or what can't be used."""

    about: str
    genotype: str | None
    copies: int | None
    value: ObservedValue
    note: str | None = None


def read_genotypes(record: PatientRecord, as_of: datetime) -> tuple[Evidence, Evidence]:
    """CYP2C9 and VKORC1; the value of each is its place in `columns.CYP2C9` or `columns.VKORC1`."""
    panels = [panel for panel in record.panels(keys(*CODES)) if _counts(panel[0], as_of)]
    said = [item for panel in panels for item in _read(panel)]
    return _cyp2c9(said), _vkorc1(said)


def _counts(value: ObservedValue, as_of: datetime) -> bool:
    known = value.observed_at is None or value.observed_at <= as_of
    return known and value.status in FINAL and value.absent_reason is None


def _read(panel: tuple[ObservedValue, ...]) -> Iterable[_Said]:
    own, words = panel[0], " ".join(_words(value) for value in panel)
    snps = [snp for snp in _SNPS if re.search(rf"\b{snp}\b", words)]
    if not snps and _PROMOTER.search(words):
        snps = ["rs9923231"]
    if own.key[1] == PHENOTYPE.code:
        return [_phenotype(own)]
    if own.key[1] == VARIANT.code:
        return [
            _Said(snps[0], None, copies, own) for copies in [_copies(panel)] if len(snps) == 1 and copies is not None
        ]
    if len(snps) == 1:
        copies = _letters(snps[0], _words(own))
        return [] if copies is None else [_Said(snps[0], None, copies, own)]
    stars = _STARS.findall(_words(own))
    if len(stars) == 1 and "CYP2C9" in words.upper():
        return [_Said("cyp2c9", "/".join(f"*{star}" for star in sorted(stars[0], key=int)), None, own)]
    return []


def _words(value: ObservedValue) -> str:
    return " ".join((value.text, *(f"{answer.display} {answer.code}" for answer in value.answers)))


def _phenotype(own: ObservedValue) -> _Said:
    """Only the normal one names a genotype."""
    normal = any(answer.code == _NORMAL for answer in own.answers) or "normal metabolizer" in _words(own).lower()
    if normal:
        return _Said("cyp2c9", "*1/*1", None, own, "taken from the phenotype “normal metaboliser”")
    return _Said("cyp2c9", None, None, own, "only a phenotype is recorded, and it fits several genotypes")


def _copies(panel: tuple[ObservedValue, ...]) -> int | None:
    codes = {answer.code for value in panel for answer in value.answers}
    if _ABSENT in {answer.code for answer in panel[0].answers}:
        return 0
    zygosity = [copies for code, copies in _COPIES.items() if code in codes]
    return zygosity[0] if len(zygosity) == 1 else None


def _letters(snp: str, words: str) -> int | None:
    found = _LETTERS.findall(words)
    if len(found) != 1 or not any(set(found[0]) <= pair for pair in _PAIRS[snp]):
        return None
    return sum(letter in _COUNTED[snp] for letter in found[0])


def _cyp2c9(said: list[_Said]) -> Evidence:
    named = [item for item in said if item.about == "cyp2c9"]
    first, second = (_agreed(item for item in said if item.about == snp) for snp in ("rs1799853", "rs1057910"))
    found: list[tuple[str | None, _Said]] = [(item.genotype, item) for item in named if item.genotype is not None]
    if first is not None and second is not None and first.copies is not None and second.copies is not None:
        diplotype = _DIPLOTYPES.get((first.copies, second.copies))
        found.append((diplotype, _Said("cyp2c9", diplotype, None, second.value, "from rs1799853 and rs1057910")))
    if found:
        return _evidence("cyp2c9", CYP2C9, found)
    return _unknown("cyp2c9", next((item for item in named), None))


def _vkorc1(said: list[_Said]) -> Evidence:
    about = [item for item in said if item.about == "rs9923231"]
    found: list[tuple[str | None, _Said]] = [(VKORC1[item.copies], item) for item in about if item.copies is not None]
    return _evidence("vkorc1", VKORC1, found) if found else _unknown("vkorc1", None)


def _agreed(items: Iterable[_Said]) -> _Said | None:
    known = list(items)
    return known[-1] if len({item.copies for item in known}) == 1 else None


def _evidence(name: str, order: tuple[str, ...], found: list[tuple[str | None, _Said]]) -> Evidence:
    genotypes, said = {genotype for genotype, _ in found}, found[-1][1]
    at, source, precision = said.value.observed_at, said.value.source, said.value.precision
    if len(genotypes) > 1:
        return Evidence(name, _LABELS[name], None, "", at, source, Reason.CONTRADICTORY, precision=precision)
    genotype = genotypes.pop()
    if genotype not in order:
        note = "it has an allele that the training data hardly hold, so it is treated as unknown"
        return Evidence(name, _LABELS[name], None, "", at, source, "out-of-range", note, precision=precision)
    return Evidence(
        name, _LABELS[name], float(order.index(genotype)), "", at, source, None, said.note, genotype, precision
    )


def _unknown(name: str, said: _Said | None) -> Evidence:
    if said is None:
        return Evidence(name, _LABELS[name], None, "", None, None, Reason.MISSING)
    value = said.value
    return Evidence(name, _LABELS[name], None, "", value.observed_at, value.source, Reason.NO_VALUE, said.note)
