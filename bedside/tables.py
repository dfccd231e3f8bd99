"""The repeated tables of the configuration: clients, services, tenants, witnesses and so on; the environment can't set these.

Every table says what it must, and the rest has the closed default. docs/connect-an-ehr.md goes through a client's table
field by field.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")]


class ClientTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One EHR that may call; its JWTs name it by issuer (and tenant claim)."""

    id: Annotated[Name, "its name in the log, in reports and in switches"]
    issuer: Annotated[str, "`iss` of its JWTs, exactly"]
    audiences: Annotated[tuple[str, ...], "`aud` values taken besides the URL that is called"] = ()
    token_tenant: Annotated[str, "`tenant` claim its JWTs must have, where one issuer speaks for many"] = ""
    algorithms: Annotated[tuple[str, ...], "JWS algorithms taken"] = ("ES384", "RS384")
    jwks_url: Annotated[str, "its key set, where a JWT names none (`jku`)"] = ""
    jwks_file: Annotated[Path | None, "its key set as a file instead"] = None
    allowed_jku: Annotated[tuple[str, ...], "key sets that a JWT of its may name"] = ()
    subject: Annotated[str, "what `fhirAuthorization.subject` must say; empty: not looked at"] = ""
    certificates_sha256: Annotated[tuple[str, ...], "client certificates asked for besides the JWT"] = ()
    fhir_servers: Annotated[tuple[str, ...], "base URLs; only these are ever asked"] = ()
    networks: Annotated[tuple[str, ...], "private networks (CIDR) that its servers may lie in"] = ()
    cors_origins: Annotated[tuple[str, ...], "web origins its pages may call from"] = ()
    services: Annotated[tuple[str, ...], "ids of services it may call; empty: all"] = ()
    tenant: Annotated[str, "whose log its decisions go to; empty: `audit.tenant`"] = ""
    profile: Annotated[str, "`spec`, `epic`, `oracle`, `medplum` or `sandbox`: a set of quirks"] = "spec"
    quirks: Annotated[tuple[str, ...], "further quirks by name"] = ()
    shadow_models: Annotated[tuple[str, ...], "models that run and are logged for it, and show nothing"] = ()
    system_actions: Annotated[bool, "whether it was agreed that it takes `systemActions`"] = False
    deadline_s: Annotated[
        Annotated[float, Meta(ge=0, le=60)], "within which to answer its calls; 0: `fhir.deadline_s`"
    ] = 0.0
    calls_per_minute: Annotated[
        Annotated[int, Meta(ge=0)], "more get 429, each worker process counting its share; 0: no limit"
    ] = 0


class ServiceTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a model is served where it is to differ from its manifest."""

    model: Annotated[str, "id of an enabled model"]
    id: Annotated[str, "id of the service; empty: the model's, with dashes"] = ""
    title: Annotated[str, "title; empty: the model's"] = ""
    hooks: Annotated[tuple[str, ...], "hooks it answers; empty: the model's"] = ()


class TenantTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A further tenant with a log of its own; `audit.tenant` is the first."""

    name: Annotated[Name, "as the clients' `tenant` names it"]
    directory: Annotated[Path, "its log and keys"]
    origin: Annotated[str, "name of its log"]
    head_file: Annotated[Path | None, "newest signed head; none: in the directory"] = None
    heads_directory: Annotated[Path | None, "heads that outsiders cosigned; none: heads/ in the directory"] = None
    vault_directory: Annotated[Path | None, "patients' wrapped keys; none: in the directory"] = None
    shared_patient_ids: Annotated[bool, "as `audit.shared_patient_ids`, for this tenant"] = False


class WitnessTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One witness that cosigns the logs' heads."""

    name: Annotated[Name, "its name in reports"]
    url: Annotated[str, "its submission prefix, before `/add-checkpoint`"]
    vkey: Annotated[str, "its verifier key (C2SP, type 04)"]
    monitoring_url: Annotated[str, "its monitoring prefix, asked for the newest head at start; empty: not asked"] = ""
    networks: Annotated[tuple[str, ...], "private networks (CIDR) that it may lie in"] = ()
    ca_file: Annotated[Path | None, "PEM file of its own certification authority; none: the usual ones"] = None


class AuthorityTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One time-stamping authority (RFC 3161) that dates the logs' heads."""

    name: Annotated[Name, "its name in reports"]
    url: Annotated[str, "where time stamps are asked for"]
    roots_file: Annotated[Path, "PEM file of the root certificates its stamps must lead to"]
    policy: Annotated[str, "OID of the policy its stamps must be under; empty: any"] = ""
    networks: Annotated[tuple[str, ...], "private networks (CIDR) that it may lie in"] = ()
    ca_file: Annotated[Path | None, "PEM file of its own certification authority; none: the usual ones"] = None


class ExportTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One place that the log may be exported to over HTTP: a FHIR server, or a collector of OTLP logs."""

    name: Annotated[Name, "its name in errors"]
    url: Annotated[str, "what it lies under; `bedside audit export … --to` goes nowhere else"]
    networks: Annotated[tuple[str, ...], "private networks (CIDR) that it may lie in"] = ()
    ca_file: Annotated[Path | None, "PEM file of its own certification authority; none: the usual ones"] = None


class OfficerTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One person who may ask for or approve erasures and holds, by a signing key of their own."""

    name: Annotated[Name, "who; the same as in the key"]
    vkey: Annotated[str, "verifier key, as `bedside audit officer new` prints it"]
    roles: Annotated[tuple[str, ...], "some of `privacy-officer`, `auditor`, `reviewer`, `administrator`"]
