"""The same job on SQLite and on Postgres, directly and behind a pooler, gives the same objects and the same rows.

Run by tests/support/postgres.sh, which starts the servers.
"""
import os
import pathlib
import subprocess
import tempfile

from harness import (RULES, digest_objects, dump_catalog, dump_postgres, in_order, make_images, psql, reinforce, require,
                     write_job)

with tempfile.TemporaryDirectory() as tmp:
    tmp = pathlib.Path(tmp)
    make_images(tmp / "images", 61)
    reinforce("run", write_job(tmp / "sqlite.yaml", tmp / "images", tmp / "sqlite", curate=RULES))
    want_objects, want_rows = digest_objects(tmp / "sqlite"), dump_catalog(tmp / "sqlite")
    for database, server in [("direct", "POSTGRES_URL"), ("pooled", "POOLER_URL")]:
        subprocess.run(["createdb", database], check=True)
        url = f"{os.environ[server]}/{database}"
        job = write_job(tmp / f"{database}.yaml", tmp / "images", tmp / database, catalog={"url": url},
                        workers={"count": 3, "part_samples": 7}, curate=RULES)
        refused = reinforce("run", job, check=None)
        require(refused.returncode != 0 and "reinforce db migrate" in refused.stderr, "the next step is said")
        require(reinforce("db", "status", "--catalog", url, check=None).returncode == 1, "not migrated yet")
        reinforce("db", "migrate", "--catalog", url)
        reinforce("db", "migrate", "--catalog", url)
        reinforce("db", "status", "--catalog", url, check=(0,))
        done = reinforce("run", job)
        require(done.returncode == 3, f"broken samples are quarantined, exit 3; got {done.returncode}")
        require(digest_objects(tmp / database) == want_objects, f"{database}: the objects differ")
        rows = dump_postgres(database, tmp / "sqlite")
        for table in want_rows:
            require(in_order(rows[table]) == in_order(want_rows[table]), f"{database}: table {table} differs")
        require(reinforce("verify", tmp / database).returncode == 0, "verify agrees")
        require("61" in psql(database, "select samples_done + samples_quarantined + samples_filtered from reinforce.progress"),
                "progress")
        for view in ("failures", "filtered", "captions_by_sample", "cost_by_model"):
            require(psql(database, f"select * from reinforce.{view}").strip() != "", f"view {view} shows rows")
        require("nothing to do" in reinforce("run", job).stdout, "a finished job is not run again")
    print(f"{len(want_objects)} objects and {sum(map(len, want_rows.values()))} rows, the same on SQLite and Postgres")
