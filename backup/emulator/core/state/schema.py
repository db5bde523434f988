"""The schema of the emulator's database, in steps; `PRAGMA user_version` counts the steps that were made.

The steps of all services stand here since their numbers are one sequence; a change is a new step at the end.
"""

from __future__ import annotations

_FIRST = """
CREATE TABLE clock (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    real_ms INTEGER NOT NULL, emulated_ms INTEGER NOT NULL, stepped_ms INTEGER NOT NULL, speed REAL NOT NULL
);
CREATE TABLE credentials (
    access_key_id TEXT PRIMARY KEY, secret_access_key TEXT NOT NULL, session_token TEXT NOT NULL,
    expires_ms INTEGER NOT NULL, account_id TEXT NOT NULL, role_arn TEXT NOT NULL, session_arn TEXT NOT NULL,
    context TEXT NOT NULL
);
CREATE TABLE vaults (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    account_id TEXT NOT NULL, region TEXT NOT NULL, name TEXT NOT NULL, created_ms INTEGER NOT NULL,
    changed_ms INTEGER, inventory_ms INTEGER,
    inventory_archives INTEGER NOT NULL DEFAULT 0, inventory_bytes INTEGER NOT NULL DEFAULT 0,
    UNIQUE (account_id, region, name)
);
CREATE TABLE archives (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    archive_id TEXT NOT NULL UNIQUE, vault INTEGER NOT NULL, description TEXT NOT NULL,
    created_ms INTEGER NOT NULL, size INTEGER NOT NULL, tree_hash TEXT NOT NULL, deleted_ms INTEGER
);
CREATE INDEX archives_of_vault ON archives (vault, id);
CREATE TABLE pieces (
    archive INTEGER NOT NULL, start INTEGER NOT NULL, length INTEGER NOT NULL,
    file TEXT NOT NULL, leaves BLOB NOT NULL, PRIMARY KEY (archive, start)
);
CREATE TABLE uploads (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    upload_id TEXT NOT NULL UNIQUE, vault INTEGER NOT NULL, description TEXT NOT NULL,
    part_size INTEGER NOT NULL, created_ms INTEGER NOT NULL,
    state TEXT NOT NULL DEFAULT 'open', archive INTEGER,
    touched_real_ms INTEGER NOT NULL, touched_stepped_ms INTEGER NOT NULL
);
CREATE TABLE parts (
    upload INTEGER NOT NULL, start INTEGER NOT NULL, length INTEGER NOT NULL,
    file TEXT NOT NULL, leaves BLOB NOT NULL, tree_hash TEXT NOT NULL, PRIMARY KEY (upload, start)
);
CREATE TABLE inventory_items (
    vault INTEGER NOT NULL, archive INTEGER NOT NULL, archive_id TEXT NOT NULL, description TEXT NOT NULL,
    created_ms INTEGER NOT NULL, size INTEGER NOT NULL, tree_hash TEXT NOT NULL, PRIMARY KEY (vault, archive)
);
CREATE TABLE jobs (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    job_id TEXT NOT NULL UNIQUE, vault INTEGER NOT NULL, action TEXT NOT NULL,
    created_ms INTEGER NOT NULL, created_stepped_ms INTEGER NOT NULL, due_ms INTEGER NOT NULL,
    state TEXT NOT NULL DEFAULT 'InProgress', message TEXT, done_real_ms INTEGER, done_stepped_ms INTEGER,
    description TEXT, sns_topic TEXT, tier TEXT, archive INTEGER, range_start INTEGER, range_end INTEGER,
    format TEXT, start_date TEXT, end_date TEXT, page_limit TEXT, marker TEXT, next_marker TEXT,
    file TEXT, file_size INTEGER
);
CREATE INDEX jobs_of_vault ON jobs (vault, id);
"""
_SETTINGS_OF_VAULTS = """
CREATE TABLE tags (vault INTEGER NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (vault, key));
CREATE TABLE notifications (vault INTEGER PRIMARY KEY, sns_topic TEXT NOT NULL, events TEXT NOT NULL);
CREATE TABLE access_policies (vault INTEGER PRIMARY KEY, policy TEXT NOT NULL);
CREATE TABLE locks (
    vault INTEGER PRIMARY KEY, lock_id TEXT NOT NULL, policy TEXT NOT NULL, state TEXT NOT NULL,
    created_ms INTEGER NOT NULL
);
CREATE TABLE retrieval_policies (
    account_id TEXT NOT NULL, region TEXT NOT NULL, strategy TEXT NOT NULL, bytes_per_hour INTEGER,
    PRIMARY KEY (account_id, region)
);
CREATE TABLE capacity (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    capacity_id TEXT NOT NULL UNIQUE, account_id TEXT NOT NULL, region TEXT NOT NULL,
    start_ms INTEGER NOT NULL, end_ms INTEGER NOT NULL
);
CREATE INDEX jobs_in_progress ON jobs (due_ms) WHERE state = 'InProgress';
CREATE INDEX jobs_of_archive ON jobs (archive);
CREATE INDEX vaults_changed ON vaults (id) WHERE changed_ms IS NOT NULL;
CREATE INDEX archives_deleted ON archives (id) WHERE deleted_ms IS NOT NULL;
"""
_MESSAGES = """
CREATE TABLE messages (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    message_id TEXT NOT NULL UNIQUE, topic TEXT NOT NULL, message TEXT NOT NULL, created_ms INTEGER NOT NULL,
    state TEXT NOT NULL DEFAULT 'waiting', tries INTEGER NOT NULL DEFAULT 0, next_real_ms INTEGER NOT NULL
);
CREATE INDEX messages_waiting ON messages (next_real_ms) WHERE state = 'waiting';
"""
# Keys of objects are BLOBs, since S3 orders them by their bytes.
_S3 = """
CREATE TABLE buckets (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE, account_id TEXT NOT NULL, region TEXT NOT NULL, created_ms INTEGER NOT NULL
);
CREATE TABLE bucket_documents (
    bucket INTEGER NOT NULL, kind TEXT NOT NULL, text TEXT NOT NULL, PRIMARY KEY (bucket, kind)
);
CREATE TABLE objects (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    bucket INTEGER NOT NULL, key BLOB NOT NULL, size INTEGER NOT NULL, etag TEXT NOT NULL,
    created_ms INTEGER NOT NULL, class TEXT NOT NULL, headers TEXT NOT NULL, tags TEXT NOT NULL DEFAULT '{}',
    algorithm TEXT NOT NULL, checksum TEXT NOT NULL, checksum_type TEXT NOT NULL,
    parts INTEGER NOT NULL DEFAULT 0,
    restore_tier TEXT, restore_asked_ms INTEGER, restore_due_ms INTEGER, restore_expiry_ms INTEGER,
    UNIQUE (bucket, key)
);
CREATE TABLE object_pieces (
    object INTEGER NOT NULL, number INTEGER NOT NULL, start INTEGER NOT NULL, length INTEGER NOT NULL,
    file TEXT NOT NULL, checksum TEXT NOT NULL, PRIMARY KEY (object, number)
);
CREATE TABLE object_uploads (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    upload_id TEXT NOT NULL UNIQUE, bucket INTEGER NOT NULL, key BLOB NOT NULL, created_ms INTEGER NOT NULL,
    class TEXT NOT NULL, headers TEXT NOT NULL, tags TEXT NOT NULL,
    algorithm TEXT NOT NULL, checksum_type TEXT NOT NULL, asked INTEGER NOT NULL,
    state TEXT NOT NULL DEFAULT 'open', object INTEGER, completed_ms INTEGER, wanted TEXT
);
CREATE INDEX object_uploads_of_bucket ON object_uploads (bucket, key, upload_id);
CREATE TABLE object_parts (
    upload INTEGER NOT NULL, number INTEGER NOT NULL, length INTEGER NOT NULL, file TEXT NOT NULL,
    etag TEXT NOT NULL, checksum TEXT NOT NULL, created_ms INTEGER NOT NULL, PRIMARY KEY (upload, number)
);
"""
# What is made by IAM's and Roles Anywhere's control planes; what the accounts file names is not here.
_IDENTITIES = """
ALTER TABLE credentials ADD COLUMN session_policy TEXT;
CREATE TABLE roles (
    arn TEXT PRIMARY KEY, account_id TEXT NOT NULL, name TEXT NOT NULL COLLATE NOCASE, path TEXT NOT NULL,
    role_id TEXT NOT NULL, description TEXT NOT NULL, max_session_duration INTEGER NOT NULL,
    trust_policy TEXT NOT NULL, tags TEXT NOT NULL, created_ms INTEGER NOT NULL,
    assumable_ms INTEGER NOT NULL,
    UNIQUE (account_id, name)
);
CREATE TABLE role_policies (
    role TEXT NOT NULL, name TEXT NOT NULL, policy TEXT NOT NULL, PRIMARY KEY (role, name)
);
CREATE TABLE anywhere (
    arn TEXT PRIMARY KEY, kind TEXT NOT NULL, account_id TEXT NOT NULL, region TEXT NOT NULL,
    detail TEXT NOT NULL, tags TEXT NOT NULL, created_ms INTEGER NOT NULL, updated_ms INTEGER NOT NULL
);
CREATE INDEX anywhere_by_kind ON anywhere (account_id, region, kind);
"""
# The meter's records; what was stored before there was a meter is billed from its creation on.
_METER = """
CREATE TABLE metered_storage (
    id INTEGER PRIMARY KEY,
    account_id TEXT NOT NULL, service TEXT NOT NULL, region TEXT NOT NULL, name TEXT NOT NULL,
    thing TEXT NOT NULL, kind TEXT NOT NULL, item TEXT NOT NULL, bytes INTEGER NOT NULL,
    from_ms INTEGER NOT NULL, until_ms INTEGER
);
CREATE INDEX metered_storage_of ON metered_storage (thing);
CREATE TABLE metered_requests (
    account_id TEXT NOT NULL, service TEXT NOT NULL, region TEXT NOT NULL, name TEXT NOT NULL,
    month TEXT NOT NULL, kind TEXT NOT NULL, item TEXT NOT NULL,
    requests INTEGER NOT NULL, bytes INTEGER NOT NULL,
    PRIMARY KEY (account_id, service, region, name, month, kind, item)
) WITHOUT ROWID;
INSERT INTO metered_storage (account_id, service, region, name, thing, kind, item, bytes, from_ms, until_ms)
SELECT v.account_id, 'glacier', v.region, v.name, 'archive ' || a.id, 'glacier', 'storage', a.size,
    a.created_ms, a.deleted_ms
FROM archives a JOIN vaults v ON v.id = a.vault;
INSERT INTO metered_storage (account_id, service, region, name, thing, kind, item, bytes, from_ms)
SELECT b.account_id, 's3', b.region, b.name, 'object ' || o.id, 's3:' || o.class, 'storage', o.size,
    o.created_ms
FROM objects o JOIN buckets b ON b.id = o.bucket;
"""

# A key has as many rows as versions. Numbers never come again: the meter knows objects by them.
_VERSIONS = """
CREATE TABLE kept_objects (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    bucket INTEGER NOT NULL, key BLOB NOT NULL, size INTEGER NOT NULL, etag TEXT NOT NULL,
    created_ms INTEGER NOT NULL, class TEXT NOT NULL, headers TEXT NOT NULL, tags TEXT NOT NULL DEFAULT '{}',
    algorithm TEXT NOT NULL, checksum TEXT NOT NULL, checksum_type TEXT NOT NULL,
    parts INTEGER NOT NULL DEFAULT 0,
    restore_tier TEXT, restore_asked_ms INTEGER, restore_due_ms INTEGER, restore_expiry_ms INTEGER,
    version TEXT NOT NULL DEFAULT 'null', is_marker INTEGER NOT NULL DEFAULT 0,
    is_latest INTEGER NOT NULL DEFAULT 1
);
INSERT INTO kept_objects SELECT *, 'null', 0, 1 FROM objects;
DELETE FROM sqlite_sequence WHERE name = 'kept_objects';
INSERT INTO sqlite_sequence SELECT 'kept_objects', seq FROM sqlite_sequence WHERE name = 'objects';
DROP TABLE objects;
ALTER TABLE kept_objects RENAME TO objects;
CREATE UNIQUE INDEX objects_there ON objects (bucket, key) WHERE is_latest = 1 AND is_marker = 0;
CREATE INDEX objects_by_age ON objects (bucket, key, id DESC);
"""

_ATTACHED = """
CREATE TABLE attached_policies (
    role TEXT NOT NULL, policy TEXT NOT NULL, PRIMARY KEY (role, policy)
);
"""

_OBJECT_LOCK = """
ALTER TABLE objects ADD COLUMN retain_mode TEXT;
ALTER TABLE objects ADD COLUMN retain_until_ms INTEGER;
ALTER TABLE objects ADD COLUMN legal_hold INTEGER;
"""

_LOCKED_UPLOADS = """
ALTER TABLE object_uploads ADD COLUMN retain_mode TEXT;
ALTER TABLE object_uploads ADD COLUMN retain_until_ms INTEGER;
ALTER TABLE object_uploads ADD COLUMN legal_hold INTEGER;
"""

STEPS = (
    *(_FIRST, _SETTINGS_OF_VAULTS, _MESSAGES, _S3, _IDENTITIES, _METER, _VERSIONS, _ATTACHED),
    *(_OBJECT_LOCK, _LOCKED_UPLOADS),
)
"""SQL scripts; each takes a database from the version of its index to the next."""

TABLES_OF_VAULT = ("tags", "notifications", "access_policies", "locks")
TABLES_WITH_FILES = ("pieces", "parts", "jobs", "object_pieces", "object_parts")
"""Tables whose column `file` names a file in the state directory."""
