"""The rows of an inventory that catalogs carry, table by table, to be compared with rebuilt ones.

SQL over two databases: `used` is the inventory in use, `main` the rebuilt one; `u` and `b` are their rows.
The tables `drill_…` are made by `same_rows.py`: jobs, archives and catalogs that both have.
"""

from __future__ import annotations

from typing import Final

from backup.inventory.rebuilt.row_pairing import (
    CHECKED,
    CONFIRMED,
    DELETED,
    EARLIER,
    HELD,
    HELD_TWICE,
    LATER,
    LOST,
    NO_CATALOG,
    NOT_ASKED,
    NOT_STORED,
    SINCE,
    UNNAMED,
    UNUSED,
    Field,
    Only,
    Pairing,
    same,
    when,
)

_MOVED = when(("j.moved", SINCE))
_ANY_MOVED = "(SELECT max(moved) FROM drill_jobs)"
_SOUND = "('stored', 'unconfirmed')"
_MARKED = "('stored', 'unconfirmed', 'retired', 'condemned', 'deleting', 'deleted')"
_STATE = Field(
    "state",
    "u.state",
    "b.state",
    when(
        (f"u.state IN {_SOUND} AND b.state IN {_SOUND}", CONFIRMED),
        ("u.state IN ('deleting', 'deleted') AND b.state IN ('condemned', 'deleted')", DELETED),
        ("u.state = 'condemned' AND b.state = 'deleted'", DELETED),
        ("u.state IN ('lost', 'damaged') AND b.state IN ('stored', 'unconfirmed', 'retired')", CHECKED),
        (f"{_ANY_MOVED} AND u.state IN {_MARKED} AND b.state IN {_MARKED}", SINCE),
    ),
)
_JOB_MOVED = when(("EXISTS (SELECT 1 FROM drill_jobs j WHERE j.used = u.number AND j.moved)", SINCE))
_GONE = when(("NOT a.whole", DELETED))

_VAULTS = Pairing(
    "vaults",
    ("name",),
    "u.name",
    "used.vaults u JOIN main.vaults b ON b.name = u.name",
    same("identity", why=when(("u.identity IS NULL OR b.identity IS NULL", NOT_ASKED))),
    Only("used.vaults u WHERE u.name = :vault AND u.name NOT IN (SELECT name FROM main.vaults)"),
    Only("main.vaults b WHERE b.name NOT IN (SELECT name FROM used.vaults)"),
    "b.name",
)

_STORED_OF_JOB = """EXISTS (SELECT 1 FROM used.catalogs c JOIN used.archives a ON a.number = c.archive
    WHERE c.job = u.number AND a.state <> 'submitted' AND a.stored_at < :listed)"""
_JOBS = Pairing(
    "jobs",
    ("id",),
    "u.name",
    "used.jobs u JOIN main.jobs b ON b.id = u.id",
    [*same("name", "made_by", "nonce"), *same("usual_from", why=_JOB_MOVED)],
    Only(
        """used.jobs u JOIN used.vaults v ON v.number = u.vault
           WHERE v.name = :vault AND u.id NOT IN (SELECT id FROM main.jobs)
             AND (:jobs = '[]' OR u.name IN (SELECT value FROM json_each(:jobs)))""",
        when((f"NOT {_STORED_OF_JOB}", NO_CATALOG)),
    ),
    Only("main.jobs b WHERE b.id NOT IN (SELECT id FROM used.jobs)"),
    "b.name",
)

_OWNERS = Pairing(
    "owners",
    ("number",),
    "'owner ' || u.number",
    "used.owners u JOIN main.owners b ON b.number = u.number",
    same("uid", "gid", "user", "group"),
    Only(
        "used.owners u WHERE u.number NOT IN (SELECT number FROM main.owners)",
        when(
            (
                """NOT EXISTS (SELECT 1 FROM used.entries e JOIN used.directories d ON d.number = e.directory
                     JOIN drill_jobs j ON j.used = d.job
                     WHERE e.owner = u.number AND e.added_in < j.first_later)""",
                UNUSED,
            )
        ),
    ),
    Only("main.owners b WHERE b.number NOT IN (SELECT number FROM used.owners)"),
    "'owner ' || b.number",
)

_HELD_BY_BUILT = """EXISTS (SELECT 1 FROM main.snapshots s WHERE s.job = j.built AND s.number >= {e}.added_in
    AND ({e}.removed_in IS NULL OR s.number < {e}.removed_in))"""
_DIRECTORIES = Pairing(
    "directories",
    ("number",),
    "u.path",
    """used.directories u JOIN drill_jobs j ON j.used = u.job
       JOIN main.directories b ON b.number = u.number""",
    [Field("job", "j.built", "b.job"), *same("path")],
    Only(
        """used.directories u JOIN drill_jobs j ON j.used = u.job
           WHERE NOT EXISTS (SELECT 1 FROM main.directories b WHERE b.number = u.number)""",
        when(
            (
                f"""NOT EXISTS (SELECT 1 FROM used.entries e WHERE e.directory = u.number
                    AND e.added_in < j.first_later AND {_HELD_BY_BUILT.format(e="e")})""",
                UNUSED,
            )
        ),
    ),
    Only(
        """main.directories b JOIN drill_jobs j ON j.built = b.job
           WHERE NOT EXISTS (SELECT 1 FROM used.directories u WHERE u.number = b.number)""",
        _MOVED,
    ),
    "b.path",
)

_OF_ENTRY = """used.entries u JOIN used.directories d ON d.number = u.directory
               JOIN drill_jobs j ON j.used = d.job"""
_ENTRIES = Pairing(
    "entries",
    ("number",),
    "d.path || '/' || u.name",
    f"{_OF_ENTRY} JOIN main.entries b ON b.number = u.number WHERE u.added_in < j.first_later",
    [
        *same("directory", "name", "kind", "mode", "owner", "mtime_ns", "size", "extra", "content_id"),
        Field("chunks", "coalesce(u.chunks, x'')", "coalesce(b.chunks, x'')"),
        *same("added_in"),
        Field(
            "removed_in",
            "CASE WHEN u.removed_in < j.first_later THEN u.removed_in END",
            "b.removed_in",
        ),
    ],
    Only(
        f"""{_OF_ENTRY} WHERE u.added_in < j.first_later
            AND NOT EXISTS (SELECT 1 FROM main.entries b WHERE b.number = u.number)""",
        when((f"NOT {_HELD_BY_BUILT.format(e='u')}", UNUSED)),
    ),
    Only(
        """main.entries b JOIN main.directories d ON d.number = b.directory
           JOIN drill_jobs j ON j.built = d.job
           WHERE NOT EXISTS (SELECT 1 FROM used.entries u WHERE u.number = b.number)""",
        _MOVED,
    ),
    "d.path || '/' || b.name",
)

_MOUNTS = Pairing(
    "hints",
    ("entry", "is_mount"),
    "'mount point: entry ' || u.entry",
    """used.hints u JOIN main.hints b ON b.entry = u.entry WHERE u.is_mount = 1 AND b.is_mount = 1""",
    [],
    Only(
        """used.hints u JOIN used.entries e ON e.number = u.entry
           JOIN used.directories d ON d.number = e.directory JOIN drill_jobs j ON j.used = d.job
           WHERE u.is_mount = 1 AND e.removed_in IS NULL AND e.added_in < j.first_later
             AND NOT EXISTS (SELECT 1 FROM main.hints b WHERE b.entry = u.entry AND b.is_mount = 1)""",
        _MOVED,
    ),
    Only(
        """main.hints b JOIN main.entries e ON e.number = b.entry
           JOIN main.directories d ON d.number = e.directory JOIN drill_jobs j ON j.built = d.job
           WHERE b.is_mount = 1
             AND NOT EXISTS (SELECT 1 FROM used.hints u WHERE u.entry = b.entry AND u.is_mount = 1)""",
        _MOVED,
    ),
    "'mount point: entry ' || b.entry",
)

_SNAPSHOTS = Pairing(
    "snapshots",
    ("id",),
    "u.id",
    "used.snapshots u JOIN drill_jobs j ON j.used = u.job JOIN main.snapshots b ON b.id = u.id",
    [
        Field("job", "j.built", "b.job"),
        *same("number", "started_at", "finished_at", "host", "sources", "problems", "files", "bytes"),
        *same("forgotten_at", "tags", "pin_note", "pin_until", "shrunk", why=_MOVED),
        *same("counts", "roots"),
    ],
    Only(
        """used.snapshots u JOIN drill_jobs j ON j.used = u.job WHERE u.number < j.first_later
           AND u.id NOT IN (SELECT id FROM main.snapshots)""",
        when(
            (
                """u.forgotten_at IS NOT NULL
                   AND EXISTS (SELECT 1 FROM used.restores r WHERE r.snapshot = u.id)""",
                HELD,
            )
        ),
    ),
    Only(
        """main.snapshots b JOIN drill_jobs j ON j.built = b.job
           WHERE b.id NOT IN (SELECT id FROM used.snapshots)""",
        _MOVED,
    ),
    "b.id",
)

_DOMAINS = Pairing(
    "domains",
    ("id",),
    "'domain ' || hex(u.id)",
    """used.domains u JOIN main.domains b ON b.id = u.id
       JOIN used.vaults x ON x.number = u.vault LEFT JOIN main.vaults y ON y.number = b.vault""",
    [Field("vault", "x.name", "y.name"), *same("recipients")],
    Only(
        """used.domains u JOIN used.vaults x ON x.number = u.vault
           WHERE x.name = :vault AND u.id NOT IN (SELECT id FROM main.domains)""",
        when(
            (
                """NOT EXISTS (SELECT 1 FROM used.archives a JOIN drill_named n ON n.archive = a.number
                               WHERE a.domain = u.number)""",
                UNNAMED,
            )
        ),
    ),
    Only("main.domains b WHERE b.id NOT IN (SELECT id FROM used.domains)"),
    "'domain ' || hex(b.id)",
)

_BOTH_ARCHIVES = """drill_archives a JOIN used.archives u ON u.number = a.used
                    JOIN main.archives b ON b.number = a.built
                    JOIN used.domains x ON x.number = u.domain
                    LEFT JOIN main.domains y ON y.number = b.domain"""
_ARCHIVE_KEY = "coalesce(u.archive_id, hex(u.pack_id))"
_DATA = Pairing(
    "archives",
    ("pack_id",),
    _ARCHIVE_KEY,
    f"{_BOTH_ARCHIVES} WHERE u.kind = 1",
    [
        *same("number", "size", "tree_hash", "archive_id", "kind", "version"),
        Field("domain", "x.id", "y.id"),
        Field("header", "u.header", "b.header", _GONE),
        Field("stored_at", "coalesce(u.stored_at, u.submitted_at)", "b.stored_at"),
        _STATE,
    ],
    Only(
        """used.archives u JOIN used.domains x ON x.number = u.domain JOIN used.vaults v ON v.number = x.vault
           WHERE v.name = :vault AND u.kind = 1 AND u.number NOT IN (SELECT used FROM drill_archives)""",
        when(
            ("u.number NOT IN (SELECT archive FROM drill_named)", UNNAMED),
            ("u.state = 'deleted'", DELETED),
        ),
    ),
    Only(
        "main.archives b WHERE b.kind = 1 AND b.number NOT IN (SELECT built FROM drill_archives)",
        when(("b.state = 'deleted'", DELETED)),
    ),
    "coalesce(b.archive_id, hex(b.pack_id))",
)

_CATALOGS = Pairing(
    "catalogs",
    ("archive",),
    f"'catalog ' || p.number || ': ' || {_ARCHIVE_KEY}",
    f"""{_BOTH_ARCHIVES} JOIN used.catalogs p ON p.archive = u.number
        JOIN main.catalogs q ON q.archive = b.number LEFT JOIN drill_jobs j ON j.used = p.job""",
    [
        Field("job", "j.built", "q.job"),
        Field("number", "p.number", "q.number"),
        Field("generation", "p.generation", "q.generation"),
        Field("parent", "p.parent", "q.parent"),
        Field("domain", "x.id", "y.id"),
        *same("header", "size", "tree_hash"),
        *same("archive_id", why=HELD_TWICE),
        _STATE,
    ],
    Only(
        """used.catalogs p JOIN used.archives u ON u.number = p.archive JOIN drill_jobs j ON j.used = p.job
           WHERE NOT EXISTS (SELECT 1 FROM drill_archives a JOIN main.catalogs q ON q.archive = a.built
                             WHERE a.used = u.number)""",
        when(
            ("u.state = 'submitted'", NOT_STORED),
            ("u.state IN ('lost', 'damaged', 'deleting', 'deleted')", LOST),
            ("p.number > j.catalog AND coalesce(u.stored_at, u.submitted_at) >= :listed", LATER),
            ("p.number < j.base", EARLIER),
            ("p.generation = :full", EARLIER),
        ),
    ),
    Only(
        """main.catalogs q JOIN main.archives b ON b.number = q.archive
           WHERE NOT EXISTS (SELECT 1 FROM drill_archives a JOIN used.catalogs p ON p.archive = a.used
                             WHERE a.built = b.number)"""
    ),
    "'catalog ' || q.number || ': ' || coalesce(b.archive_id, hex(b.pack_id))",
)

_NAMES = Pairing(
    "catalog_archives",
    ("catalog", "archive"),
    "'catalog ' || u.catalog || ' names archive ' || u.archive",
    """used.catalog_archives u JOIN drill_archives c ON c.used = u.catalog
       JOIN drill_archives a ON a.used = u.archive
       JOIN main.catalog_archives b ON b.catalog = c.built AND b.archive = a.built""",
    [],
    Only(
        """used.catalog_archives u JOIN drill_archives c ON c.used = u.catalog
           JOIN drill_archives a ON a.used = u.archive
           WHERE NOT EXISTS (SELECT 1 FROM main.catalog_archives b
                             WHERE b.catalog = c.built AND b.archive = a.built)""",
        _GONE,
    ),
    Only(
        """main.catalog_archives b JOIN drill_archives c ON c.built = b.catalog
           JOIN drill_archives a ON a.built = b.archive
           WHERE NOT EXISTS (SELECT 1 FROM used.catalog_archives u
                             WHERE u.catalog = c.used AND u.archive = a.used)""",
        _GONE,
    ),
    "'catalog ' || b.catalog || ' names archive ' || b.archive || ' of the rebuilt inventory'",
)

_CONDEMNED = Pairing(
    "condemnations",
    ("archive", "job"),
    "'archive ' || u.archive",
    """used.condemnations u JOIN drill_archives a ON a.used = u.archive JOIN drill_jobs j ON j.used = u.job
       JOIN main.condemnations b ON b.archive = a.built AND b.job = j.built""",
    same("at", why=_MOVED),
    Only(
        """used.condemnations u JOIN drill_archives a ON a.used = u.archive
           JOIN drill_jobs j ON j.used = u.job
           WHERE NOT EXISTS (SELECT 1 FROM main.condemnations b
                             WHERE b.archive = a.built AND b.job = j.built)""",
        when(("j.moved", SINCE), ("NOT a.whole", DELETED)),
    ),
    Only(
        """main.condemnations b JOIN drill_archives a ON a.built = b.archive
           JOIN drill_jobs j ON j.built = b.job
           WHERE NOT EXISTS (SELECT 1 FROM used.condemnations u
                             WHERE u.archive = a.used AND u.job = j.used)""",
        when(("j.moved", SINCE), ("NOT a.whole", DELETED)),
    ),
    "'archive ' || b.archive || ' of the rebuilt inventory'",
)

_FRAMES = Pairing(
    "frames",
    ("archive", "number"),
    "'frame ' || u.number || ' of archive ' || u.archive",
    """drill_archives a JOIN used.frames u ON u.archive = a.used
       JOIN main.frames b ON b.archive = a.built AND b.number = u.number WHERE a.whole""",
    same("offset", "sealed_length", "raw_length", "flags", "digest"),
    Only(
        """drill_archives a JOIN used.frames u ON u.archive = a.used
           WHERE a.whole AND NOT EXISTS (SELECT 1 FROM main.frames b
                                         WHERE b.archive = a.built AND b.number = u.number)"""
    ),
    Only(
        """drill_archives a JOIN main.frames b ON b.archive = a.built
           WHERE a.whole AND NOT EXISTS (SELECT 1 FROM used.frames u
                                         WHERE u.archive = a.used AND u.number = b.number)"""
    ),
    "'frame ' || b.number || ' of archive ' || b.archive || ' of the rebuilt inventory'",
)

_CHUNKS = Pairing(
    "chunks",
    ("number",),
    "'chunk ' || u.number",
    """drill_archives a JOIN used.chunks u ON u.archive = a.used JOIN main.chunks b ON b.number = u.number
       WHERE a.whole""",
    [Field("archive", "a.built", "b.archive"), *same("prefix", "id", "frame", "offset", "length")],
    Only(
        """drill_archives a JOIN used.chunks u ON u.archive = a.used
           WHERE a.whole AND NOT EXISTS (SELECT 1 FROM main.chunks b WHERE b.number = u.number)"""
    ),
    Only(
        """drill_archives a JOIN main.chunks b ON b.archive = a.built
           WHERE a.whole AND NOT EXISTS (SELECT 1 FROM used.chunks u WHERE u.number = b.number)"""
    ),
    "'chunk ' || b.number",
)

PAIRINGS: Final = (
    _VAULTS, _JOBS, _OWNERS, _DIRECTORIES, _ENTRIES, _MOUNTS, _SNAPSHOTS, _DOMAINS, _DATA, _CATALOGS, _NAMES,
    _CONDEMNED, _FRAMES, _CHUNKS,
)  # fmt: skip
"""All tables that catalogs carry, in the order in which they are compared."""
