"""The schema of a log as PostgreSQL's catalogue tells it, line by line: what `create_schema` makes, and nothing more.

Compared whole, so that a table, column, default, index, trigger, rule, policy, function or parent that was changed, added or
taken away shows. Rights and the settings of autovacuum are the site's own and aren't compared.
"""

from audit.storage.postgresql_session import Session

_FORM_QUERIES = (
    "SELECT 'version: ' || coalesce(obj_description(n.oid, 'pg_namespace'), '') FROM pg_namespace n WHERE nspname = $1",
    """SELECT concat_ws(' ', CASE relkind WHEN 'r' THEN 'table' WHEN 'S' THEN 'sequence' ELSE 'other' END,
    relname, relpersistence, (SELECT string_agg(o, ',') FROM unnest(reloptions) AS o WHERE o NOT LIKE 'autovacuum%'),
    CASE WHEN relrowsecurity THEN 'with row security' END,
    (SELECT 'with rule ' || min(rulename) FROM pg_rewrite WHERE ev_class = c.oid),
    CASE WHEN EXISTS (SELECT FROM pg_inherits WHERE c.oid IN (inhparent, inhrelid)) THEN 'with inheritance' END)
    FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname = $1 AND relkind <> 'i'""",
    """SELECT concat_ws(' ', 'column', relname || '.' || attname, format_type(atttypid, atttypmod), l.collname,
    CASE WHEN attnotnull THEN 'not null' END, nullif(attidentity, ''), nullif(attgenerated, ''), 'storage', attstorage,
    CASE WHEN coalesce(attstattarget, -1) >= 0 THEN 'statistics ' || attstattarget END, pg_get_expr(adbin, adrelid))
    FROM pg_attribute a JOIN pg_class c ON c.oid = attrelid JOIN pg_namespace n ON n.oid = relnamespace
    LEFT JOIN pg_collation l ON l.oid = attcollation LEFT JOIN pg_attrdef d ON adrelid = attrelid AND adnum = attnum
    WHERE nspname = $1 AND relkind = 'r' AND attnum > 0 AND NOT attisdropped""",
    """SELECT concat_ws(' ', 'constraint', conrelid::regclass, conname, pg_get_constraintdef(k.oid),
    CASE WHEN NOT convalidated THEN 'not valid' END)
    FROM pg_constraint k JOIN pg_namespace n ON n.oid = connamespace WHERE nspname = $1 AND contype <> 'n'""",
    """SELECT concat_ws(' ', pg_get_indexdef(indexrelid),
    CASE WHEN NOT (indisvalid AND indisready AND indislive) THEN 'invalid' END)
    FROM pg_index JOIN pg_class c ON c.oid = indexrelid JOIN pg_namespace n ON n.oid = relnamespace
    WHERE nspname = $1""",
    """SELECT concat_ws(' ', tgenabled, replace(pg_get_triggerdef(t.oid), 'CREATE ', ''))
    FROM pg_trigger t JOIN pg_class c ON c.oid = tgrelid JOIN pg_namespace n ON n.oid = relnamespace
    WHERE nspname = $1 AND NOT tgisinternal""",
    """SELECT concat_ws(' ', 'function', proname, pg_get_function_identity_arguments(p.oid), lanname, prosrc)
    FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace JOIN pg_language l ON l.oid = prolang
    WHERE nspname = $1""",
    """SELECT concat_ws(' ', 'foreign key trigger', c.relname, tgenabled)
    FROM pg_trigger t JOIN pg_class c ON c.oid = tgrelid JOIN pg_namespace n ON n.oid = relnamespace
    WHERE nspname = $1 AND tgisinternal AND tgenabled <> 'O'""",
    """SELECT concat_ws(' ', 'policy', c.relname, polname)
    FROM pg_policy JOIN pg_class c ON c.oid = polrelid JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname = $1""",
)


def read_form(session: Session, schema: str) -> frozenset[str]:
    """The lines of this schema; its own name is left out of them."""
    lines = [row[0] for query in _FORM_QUERIES for row in session.rows(query, schema)]
    return frozenset(line.replace(f'"{schema}".', "").replace(f"{schema}.", "") for line in lines)


FORM_LINES = frozenset(
    """
CREATE INDEX facts_by_time ON facts USING btree ("time")
CREATE INDEX holds_by_lookup ON holds USING btree (lookup)
CREATE INDEX payloads_by_key ON payloads USING btree (key_ref)
CREATE UNIQUE INDEX anchors_pkey ON anchors USING btree (size, kind, authority)
CREATE UNIQUE INDEX checkpoints_pkey ON checkpoints USING btree (size)
CREATE UNIQUE INDEX entries_pkey ON entries USING btree (idx)
CREATE UNIQUE INDEX erasures_pkey ON erasures USING btree (id)
CREATE UNIQUE INDEX facts_by_id ON facts USING btree (entry_id)
CREATE UNIQUE INDEX facts_pkey ON facts USING btree (idx)
CREATE UNIQUE INDEX holds_pkey ON holds USING btree (hold)
CREATE UNIQUE INDEX patient_keys_lookup_key ON patient_keys USING btree (lookup)
CREATE UNIQUE INDEX patient_keys_pkey ON patient_keys USING btree (key_ref)
CREATE UNIQUE INDEX payloads_pkey ON payloads USING btree (idx)
CREATE UNIQUE INDEX request_subjects_pkey ON request_subjects USING btree (id, "position")
CREATE UNIQUE INDEX requests_pkey ON requests USING btree (id)
column anchors.authority text C not null storage x
column anchors.evidence bytea not null storage x
column anchors.kind text C not null storage x
column anchors.size bigint not null storage p
column anchors.time text C not null storage x
column checkpoints.note bytea not null storage x
column checkpoints.size bigint not null storage p
column entries.entry bytea not null storage e
column entries.hashes bytea not null storage e
column entries.idx bigint not null storage p
column erasures.id text C not null storage x
column erasures.salt bytea not null storage x
column facts.actor text C not null storage x
column facts.entry_id bytea not null storage x
column facts.idx bigint not null storage p
column facts.model text C not null storage x
column facts.service text C not null storage x
column facts.status text C not null storage x
column facts.time text C not null storage x
column facts.type text C not null storage x
column holds.hold text C not null storage x
column holds.lookup bytea not null storage x statistics 0
column holds.placed text C not null storage x
column holds.reason text C not null storage x
column holds.until text C storage x
column patient_keys.created text C not null storage x
column patient_keys.key_ref bigint not null a storage p
column patient_keys.lookup bytea not null storage x statistics 0
column patient_keys.wrapped bytea not null storage x statistics 0
column patient_keys.wrapping_key text C not null storage x
column payloads.erasure text C not null storage x
column payloads.idx bigint not null storage p
column payloads.key_ref bigint not null storage p
column payloads.sealed bytea storage e statistics 0
column request_subjects.id text C not null storage x
column request_subjects.lookup bytea not null storage x statistics 0
column request_subjects.position integer not null storage p
column requests.body bytea not null storage x statistics 0
column requests.created text C not null storage x
column requests.id text C not null storage x
column requests.kind text C not null storage x
column requests.state text C not null storage x
constraint anchors anchors_pkey PRIMARY KEY (size, kind, authority)
constraint checkpoints checkpoints_pkey PRIMARY KEY (size)
constraint entries entries_pkey PRIMARY KEY (idx)
constraint erasures erasures_pkey PRIMARY KEY (id)
constraint facts facts_pkey PRIMARY KEY (idx)
constraint holds holds_pkey PRIMARY KEY (hold)
constraint patient_keys patient_keys_lookup_check CHECK ((length(lookup) = 32))
constraint patient_keys patient_keys_lookup_key UNIQUE (lookup)
constraint patient_keys patient_keys_pkey PRIMARY KEY (key_ref)
constraint payloads payloads_pkey PRIMARY KEY (idx)
constraint request_subjects request_subjects_pkey PRIMARY KEY (id, "position")
constraint requests requests_pkey PRIMARY KEY (id)
function refuse_change  plpgsql BEGIN RAISE insufficient_privilege USING MESSAGE = 'what was logged stays'; END
sequence patient_keys_key_ref_seq p
table anchors p
table checkpoints p toast_tuple_target=8160
table entries p toast_tuple_target=8160
table erasures p
table facts p
table holds p
table patient_keys p
table payloads p toast_tuple_target=8160
table request_subjects p
table requests p
A TRIGGER only_grows BEFORE DELETE OR UPDATE OR TRUNCATE ON anchors FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()
A TRIGGER only_grows BEFORE DELETE OR UPDATE OR TRUNCATE ON checkpoints FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()
A TRIGGER only_grows BEFORE DELETE OR UPDATE OR TRUNCATE ON entries FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()
A TRIGGER only_grows BEFORE DELETE OR UPDATE OR TRUNCATE ON erasures FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()
A TRIGGER only_grows BEFORE DELETE OR UPDATE OR TRUNCATE ON facts FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()
version: bedside log, version 2
""".strip().splitlines()
)
