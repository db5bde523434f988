"""Views: the content of each page as frozen values, made from one read transaction; no HTML, no requests.

    overview.overview(tx, config, now, daemon)                    is all well
    run_pages.run_page(tx, job=…, kind=…, outcome=…, before=…)    runs, newest first
    run_pages.one_run(tx, number)                                 one run
    nights.snapshot_page(tx, job, before=…)                       a job's snapshots
    nights.changes(tx, newer, older=…, path=…, after=…)           what changed between two snapshots
    browsing.directory(tx, config, now, snapshot, path, after=…)  a directory of a snapshot
    versions.versions_of_path(tx, config, now, job, path)         the versions of a file
    searching.search(tx, words, job=…, after=…)                   names in all snapshots
    quoting.quote(tx, config, now, snapshot, paths)               what a restore costs, and its command
    money.money(tx, config, now)                                  archives, costs by month and job, checks
    calendar.schedule(tx, config, now, daemon)                    the next two weeks, and what runs

`daemon` is a `daemon.DaemonStatus`, made from the answer of the verb "status", or None. Jobs, snapshots,
words and cursors (`after`: the `next_after` of an earlier page) are unchecked text from the request, paths
are bytes: all are checked here. `errors.NotThereError` means that something does not exist (404),
`errors.BadParameterError` that a parameter is invalid (400). The values are in `values`.
"""
