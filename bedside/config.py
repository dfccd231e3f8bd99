"""The configuration: one frozen value, read once from a TOML file and `BEDSIDE_*` variables, and strict.

Every setting has its unit in its name. Unknown names, in the file or in the environment, are refused, so a misspelt limit
cannot pass for a default. There are no secrets in it: keys are files, and the settings name their folder.

`BEDSIDE_<SECTION>_<SETTING>` overrides the file: `BEDSIDE_SERVER_PORT=8080`. Lists are separated by spaces.
`BEDSIDE_CONFIG` names the file. README's table is held to this module by a test.
"""

from __future__ import annotations

import ipaddress
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec


class ConfigError(Exception):
    """The configuration cannot be used; the message names the setting, what was expected and what came."""


class Server(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where and how the service listens."""

    host: str = "127.0.0.1"
    port: int = 8712
    workers: int = 1  # processes; each loads every model
    public_url: str = ""  # base URL as the EHR sees it, for links; empty: http://host:port
    max_body_bytes: int = 8 * 1024 * 1024  # a 5,000-Observation prefetch is about 4 MB


class Access(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who may call. Closed unless configured."""

    open_on_loopback: bool = False  # answer callers without credentials; refused unless host is a loopback address


class Fhir(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which FHIR servers may be asked, and for how long."""

    allowed_servers: tuple[str, ...] = ()  # base URLs; a call's fhirServer must be one of them
    deadline_s: float = 3.0  # for everything one hook call fetches
    max_pages: int = 10
    max_response_bytes: int = 16 * 1024 * 1024


class Audit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where decisions are recorded."""

    directory: Path = Path("var/audit")  # the log, its keys (keys/, 0600) and its public key (log.vkey)
    head_file: Path | None = None  # newest signed head, better on another volume; none: in the directory
    origin: str = "localhost/cds-audit/default/1"
    tenant: str = "default"
    deadline_ms: int = 250  # no durable record within it: no cards


class Models(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which models answer."""

    enabled: tuple[str, ...] = ("prevent_cvd", "icu_mortality")


class SmartApp(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The app behind a card's "reasons" link."""

    launch_url: str = ""  # empty: cards carry no smart link


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything Bedside can be told."""

    server: Server = Server()
    access: Access = Access()
    fhir: Fhir = Fhir()
    audit: Audit = Audit()
    models: Models = Models()
    smart_app: SmartApp = SmartApp()

    @property
    def public_url(self) -> str:
        """Base URL as the EHR sees it, without a trailing slash."""
        return self.server.public_url.rstrip("/") or f"http://{self.server.host}:{self.server.port}"


def load_config(path: Path | None, environment: Mapping[str, str]) -> Config:
    """The configuration from `path` (none: defaults) and `environment`.

    Raises:
        ConfigError: unreadable, an unknown setting, a wrong type, or settings that contradict each other.
    """
    tables = _read_tables(path)
    for name, value in environment.items():
        if name.startswith("BEDSIDE_") and name != "BEDSIDE_CONFIG":
            section, setting = _find_setting(name)
            tables.setdefault(section, {})[setting] = _convert(name, value, section, setting)
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
    raise NotImplementedError


def _read_tables(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        return tomllib.loads(path.read_text())
    except OSError as exc:
        raise ConfigError(f"configuration file {path}: {exc.strerror}") from exc
    except tomllib.TOMLDecodeError as exc:
        raise ConfigError(f"configuration file {path}: {exc}") from exc


def _find_setting(name: str) -> tuple[str, str]:
    wanted = name.removeprefix("BEDSIDE_").lower()
    for section in Config.__struct_fields__:
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
    for server in config.fhir.allowed_servers:
        parts = urlsplit(server)
        if parts.scheme != "https" and not (parts.scheme == "http" and _is_loopback(parts.hostname or "")):
            raise ConfigError(f"fhir.allowed_servers: expected https (http on loopback only), got {server}")
    if config.server.workers < 1:
        raise ConfigError(f"server.workers: expected at least 1, got {config.server.workers}")
    if config.smart_app.launch_url and urlsplit(config.smart_app.launch_url).scheme not in ("http", "https"):
        raise ConfigError("smart_app.launch_url: expected an absolute http(s) URL")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
