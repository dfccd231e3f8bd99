"""The configuration: one frozen value, read once from a TOML file and `BEDSIDE_*` variables, and strict.

Every setting has its unit in its name. Unknown names, in the file or in the environment, are refused, so a misspelt limit
cannot pass for a default. There are no secrets in it: keys are files, and the settings name their folder.

`BEDSIDE_<SECTION>_<SETTING>` overrides the file: `BEDSIDE_SERVER_PORT=8080`. Lists are separated by spaces.
`BEDSIDE_CONFIG` names the file. `python -m bedside.config` prints the table of settings in docs/configuration.md, which a
test holds to this module. A new setting is one annotated field here.
"""

from __future__ import annotations

import ipaddress
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, get_args, get_origin, get_type_hints
from urllib.parse import SplitResult, urlsplit

import msgspec
from msgspec import Meta

from bedside.tables import (
    AuthorityTable,
    ClientTable,
    ExportTable,
    OfficerTable,
    ServiceTable,
    TenantTable,
    WitnessTable,
)

Port: TypeAlias = Annotated[int, Meta(ge=1, le=65_535)]
Count: TypeAlias = Annotated[int, Meta(ge=1)]
Seconds: TypeAlias = Annotated[float, Meta(gt=0, le=3_600)]


class ConfigError(Exception):
    """The configuration cannot be used; the message names the setting, what was expected and what came."""


class Server(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where and how the service listens."""

    host: Annotated[str, "address to listen on"] = "127.0.0.1"
    port: Annotated[Port, "port to listen on"] = 8712
    workers: Annotated[Count, "processes; each loads every model"] = 1
    public_url: Annotated[str, "base URL as the EHR sees it, for links; empty: http://host:port"] = ""
    # a 5,000-Observation prefetch is about 4 MB
    max_body_bytes: Annotated[Count, "largest call accepted"] = 8 * 1024 * 1024


class Access(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who may call. Closed unless configured."""

    open_on_loopback: Annotated[
        bool, "answer callers without credentials; refused unless host is a loopback address"
    ] = False
    open_discovery: Annotated[bool, "answer the discovery document without credentials; calls need them"] = False
    trusted_proxies: Annotated[tuple[str, ...], "networks (CIDR) whose `Client-Cert` header is believed"] = ()


class Fhir(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which FHIR servers may be asked, and for how long."""

    allowed_servers: Annotated[tuple[str, ...], "base URLs for an open service; clients have their own"] = ()
    deadline_s: Annotated[Seconds, "for everything one call fetches"] = 3.0
    max_pages: Annotated[Count, "pages of one search"] = 10
    max_response_bytes: Annotated[Count, "all pages of one search together"] = 16 * 1024 * 1024


class Audit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where decisions are recorded."""

    directory: Annotated[Path, "the log, its keys (keys/, 0600) and its public key (log.vkey)"] = Path("var/audit")
    head_file: Annotated[Path | None, "newest signed head, better on another volume; none: in the directory"] = None
    origin: Annotated[str, "name of the log, as given to `bedside audit init`"] = "localhost/cds-audit/default/1"
    tenant: Annotated[str, "whose decisions these are"] = "default"
    shared_patient_ids: Annotated[
        bool, "several clients or FHIR servers of this tenant use the same patient ids; else they are refused"
    ] = False
    deadline_ms: Annotated[Count, "no durable record within it: no cards"] = 250
    heads_directory: Annotated[Path | None, "heads that outsiders cosigned; none: heads/ in the directory"] = None
    vault_directory: Annotated[
        Path | None, "patients' wrapped keys, better on another volume; none: in the directory"
    ] = None
    publish_directory: Annotated[
        Path | None, "folder to publish the log in, as tiles, in one folder per tenant; none: nowhere"
    ] = None
    outside_every_s: Annotated[Seconds, "how often heads go to witnesses and are published, off the response path"] = (
        60.0
    )
    timestamp_every_s: Annotated[Annotated[float, Meta(ge=1)], "how often heads are time-stamped"] = 3600.0
    retention_years: Annotated[Annotated[float, Meta(gt=0)], "payloads are kept so long"] = 10.0
    retention_floor_years: Annotated[
        Annotated[float, Meta(ge=0)], "and never shorter, unless `retention_law` names what allows it"
    ] = 6.0
    retention_law: Annotated[str, "code of the law that lets the floor be lower than 6 years; empty: none"] = ""


class Models(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which models answer."""

    enabled: Annotated[tuple[str, ...], "ids of models; `bedside model list` shows them"] = (
        "prevent_cvd",
        "icu_mortality",
        "warfarin_dose",
        "readmission_30d",
    )
    shadow: Annotated[tuple[str, ...], "ids of models that run and are logged, and show nothing to anyone"] = ()
    archive: Annotated[
        Path | None,
        "a copy of each version that was in service, so that its decisions can be repeated; none: in the state",
    ] = None
    store: Annotated[
        Path | None,
        "versions that `bedside model promote` and `shadow` brought in, and which is in force; none: in the state",
    ] = None
    trusted_keys: Annotated[
        tuple[Path, ...],
        "public keys (PEM files) that may sign models, beside Bedside's own; a model of no such key is refused",
    ] = ()
    local_validation: Annotated[
        Path | None, "reports of `bedside model evaluate`, which the models' pages show; none: in the state"
    ] = None


class Ward(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How often the same finding is shown."""

    quiet_s: Annotated[
        Annotated[float, Meta(ge=0, le=31_536_000)], "the same finding is not shown again within it; 0: always shown"
    ] = 0.0
    quiet_per: Annotated[
        Literal["patient", "user"], "patient: shown once to whoever comes first; user: once to each user"
    ] = "patient"


class Monitoring(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How what models see is counted for the log; when it is an alarm says each model's manifest."""

    every_decisions: Annotated[
        Annotated[int, Meta(ge=50)], "a worker writes a model's counts after so many decisions"
    ] = 500
    every_s: Annotated[Annotated[float, Meta(ge=1, le=86_400)], "or after so long, whichever comes first"] = 3_600.0
    least: Annotated[
        Annotated[int, Meta(ge=50)],
        "but never counts of fewer patients' decisions: those wait for more, or are dropped",
    ] = 50
    period_days: Annotated[Annotated[int, Meta(ge=1, le=366)], "how far back is looked for drift"] = 7


class State(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What worker processes share and a restart must not forget: spent tokens, switches, findings shown."""

    directory: Annotated[Path, "small databases without patient data"] = Path("var/state")


class SmartApp(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The app behind a card's "reasons" link."""

    launch_url: Annotated[str, "launch URL of the app; empty: cards carry no such link"] = ""


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything Bedside can be told."""

    server: Server = Server()
    access: Access = Access()
    fhir: Fhir = Fhir()
    audit: Audit = Audit()
    models: Models = Models()
    smart_app: SmartApp = SmartApp()
    ward: Ward = Ward()
    monitoring: Monitoring = Monitoring()
    state: State = State()
    clients: tuple[ClientTable, ...] = ()
    services: tuple[ServiceTable, ...] = ()
    tenants: tuple[TenantTable, ...] = ()
    witnesses: tuple[WitnessTable, ...] = ()
    timestamp_authorities: tuple[AuthorityTable, ...] = ()
    export_destinations: tuple[ExportTable, ...] = ()
    officers: tuple[OfficerTable, ...] = ()

    @property
    def model_archive(self) -> Path:
        """Where versions that were in service are kept."""
        return self.models.archive or self.state.directory / "models"

    @property
    def model_store(self) -> Path:
        """Where versions lie that came into force after the installation."""
        return self.models.store or self.state.directory / "versions"

    @property
    def local_validation(self) -> Path:
        """Where the reports on this site's own patients are kept."""
        return self.models.local_validation or self.state.directory / "local-validation"

    @property
    def public_url(self) -> str:
        """Base URL as the EHR sees it, without a trailing slash."""
        host = f"[{self.server.host}]" if ":" in self.server.host else self.server.host
        return self.server.public_url.rstrip("/") or f"http://{host}:{self.server.port}"


TABLES = ("clients", "services", "tenants", "witnesses", "timestamp_authorities", "export_destinations", "officers")
SECTIONS = tuple(name for name in Config.__struct_fields__ if name not in TABLES)


def load_config(path: Path | None, environment: Mapping[str, str]) -> Config:
    """The configuration from `path` (none: defaults) and `environment`.

    Raises:
        ConfigError: unreadable, an unknown setting, a wrong type, or settings that contradict each other.
    """
    tables = _read_tables(path)
    for name, value in environment.items():
        if name.startswith("BEDSIDE_") and name != "BEDSIDE_CONFIG":
            section, setting = _find_setting(name)
            table = tables.setdefault(section, {})
            if isinstance(table, dict):  # anything else is refused below, by its place in the file
                table[setting] = _convert(name, value, section, setting)
    try:
        config = msgspec.convert(tables, Config, dec_hook=_read_path)
    except msgspec.ValidationError as exc:
        raise ConfigError(f"configuration: {exc}") from exc
    _check(config)
    return config


def _read_path(kind: type, value: object) -> object:
    """The one type of setting that msgspec doesn't know."""
    if kind is Path and isinstance(value, str | Path):  # a Path where it came from the environment
        return Path(value)
    raise ValueError(f"Expected `{kind.__name__}` as text, got `{type(value).__name__}`")


def _read_tables(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as exc:
        raise ConfigError(f"configuration file {path}: {exc.strerror}") from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise ConfigError(f"configuration file {path}: {exc}") from exc


def _find_setting(name: str) -> tuple[str, str]:
    wanted = name.removeprefix("BEDSIDE_").lower()
    for section in SECTIONS:
        for setting in type(getattr(Config(), section)).__struct_fields__:
            if wanted == f"{section}_{setting}":
                return section, setting
    raise ConfigError(f"environment variable {name} is no setting of Bedside")


def _convert(name: str, value: str, section: str, setting: str) -> Any:
    default = getattr(getattr(Config(), section), setting)
    if isinstance(default, tuple):
        return value.split()
    if isinstance(default, bool):
        if value not in ("true", "false"):
            raise ConfigError(f"environment variable {name}: expected true or false, got {value!r}")
        return value == "true"
    if default is None:
        return Path(value)
    try:
        return type(default)(value)
    except ValueError:
        raise ConfigError(f"environment variable {name}: expected {type(default).__name__}, got {value!r}") from None


def _check(config: Config) -> None:
    if config.access.open_on_loopback and not _is_loopback(config.server.host):
        raise ConfigError(
            f"access.open_on_loopback: expected server.host to be a loopback address, got {config.server.host}"
        )
    if config.access.open_on_loopback and config.clients:
        raise ConfigError("access.open_on_loopback: expected false where clients are registered, got true")
    _check_patient_ids(config)
    for server in config.fhir.allowed_servers:
        check_https("fhir.allowed_servers", server)
    for name, url in (
        ("server.public_url", config.server.public_url),
        ("smart_app.launch_url", config.smart_app.launch_url),
    ):
        if url:
            _split(name, url)


def _check_patient_ids(config: Config) -> None:
    """In one tenant a patient is an id: two persons of one id would have one key, one timeline and one erasure.

    An open service is for evaluation, and knows nobody's ids.
    """
    shared = {one.name for one in config.tenants if one.shared_patient_ids}
    if config.audit.shared_patient_ids:
        shared.add(config.audit.tenant)
    sources: dict[str, list[str]] = {}
    for client in config.clients:
        servers = {server.rstrip("/") for server in client.fhir_servers}
        sources.setdefault(client.tenant or config.audit.tenant, []).extend([client.id] * max(len(servers), 1))
    for tenant, ids in sources.items():
        if len(ids) > 1 and tenant not in shared:
            place = "audit." if tenant == config.audit.tenant else f"tenants {tenant}."
            raise ConfigError(
                f"{place}shared_patient_ids: expected true where several clients or FHIR servers share a tenant, which says "
                "that all of them use the same patient ids (one master patient index), or else a tenant for each; these are "
                f"of {', '.join(dict.fromkeys(ids))}"
            )


def check_https(name: str, url: str) -> None:
    """Returns if `url` is https, or http on a loopback address.

    Raises:
        ConfigError: it isn't.
    """
    parts = _split(name, url)
    if parts.scheme != "https" and not _is_loopback(parts.hostname or ""):
        raise ConfigError(f"{name}: expected https (http on loopback only), got {url}")


def _split(name: str, url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = SplitResult("", "", "", "", "")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"{name}: expected an absolute http(s) URL, got {url}")
    return parts


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def settings_table() -> str:
    """Every setting with its variable, default and meaning, as Markdown tables."""
    hints = get_type_hints(Config)
    lines = ["| setting | environment | default | meaning |", "|---|---|---|---|"]
    for section in SECTIONS:
        for setting, default, meaning in _settings(hints[section]):
            variable = f"BEDSIDE_{section.upper()}_{setting.upper()}"
            lines.append(f"| `{section}.{setting}` | `{variable}` | {default} | {meaning} |")
    for name in TABLES:
        kind = get_args(hints[name])[0]
        lines += ["", f"`[[{name}]]`: {_sentence(kind)}", "", "| field | default | meaning |", "|---|---|---|"]
        lines += [f"| `{setting}` | {default} | {meaning} |" for setting, default, meaning in _settings(kind)]
    return "\n".join(lines) + "\n"


def _settings(kind: type[msgspec.Struct]) -> Iterator[tuple[str, str, str]]:
    """Name, default and meaning of each field."""
    hints = get_type_hints(kind, include_extras=True)
    for field in msgspec.structs.fields(kind):
        meaning = next(text for text in _metadata(hints[field.name]) if isinstance(text, str))
        required = field.default is msgspec.NODEFAULT
        yield field.name, "required" if required else _shown(field.default), meaning


def _metadata(hint: Any) -> tuple[Any, ...]:
    return tuple(hint.__metadata__) if get_origin(hint) is Annotated else ()


def _sentence(kind: type) -> str:
    text = (kind.__doc__ or "").partition("\n")[0]
    return text[0].lower() + text[1:]


def _shown(default: object) -> str:
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if isinstance(default, tuple):
        default = " ".join(map(str, default))
    return "none" if default in (None, "") else f"`{default}`"


if __name__ == "__main__":
    print(settings_table(), end="")
