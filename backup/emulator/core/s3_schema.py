"""S3's tables in the emulator's database; keys are BLOBs, since S3 orders them by their bytes."""

from __future__ import annotations

SCHEMA = """
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
TABLES_WITH_FILES = ("object_pieces", "object_parts")
