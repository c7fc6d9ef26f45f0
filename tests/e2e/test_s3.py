"""A job from a bucket into a bucket of a real server: the bytes and rows of the same job on files, also when it is killed
on the way; nothing is left over; refusals say what to do; inputs from the web, and from private addresses only when allowed.

Run beside tests/support/ceph.sh, which sets the AWS variables. Needs boto3, the reference that writes inputs and reads
outputs here; without it the test is skipped.
"""
import functools
import http.server
import os
import pathlib
import random
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading

try:
    import boto3
    import botocore.config
except ImportError:
    print("skipped: no boto3", file=sys.stderr)
    sys.exit(77)

from harness import BINARY, digest_bodies, digest_objects, dump_catalog, make_images, reinforce, require, write_job

KILLS = 6
WORKERS = {"count": 2, "threads": 1, "part_samples": 3, "queue_items": 6}
s3 = boto3.client("s3", config=botocore.config.Config(s3={"addressing_style": "path"}))


def list_keys(bucket, prefix=""):
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    return [item["Key"] for page in pages for item in page.get("Contents", [])]


def digest_bucket(bucket, prefix):
    read = lambda key: s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    return digest_bodies((key[len(prefix):], functools.partial(read, key)) for key in list_keys(bucket, prefix))


def differences(got, want):
    return sorted(name for name in set(got) | set(want) if got.get(name) != want.get(name))


def make_tars(images, folder):
    """Two tars of the images with their captions."""
    folder.mkdir()
    paths = sorted(images.iterdir())
    for i in range(2):
        with tarfile.open(folder / f"{i}.tar", "w") as tar:
            for path in paths[i * len(paths) // 4 * 2:(i + 1) * len(paths) // 4 * 2]:
                tar.add(path, path.name)


def run_killed(job, rng):
    """Runs a job to its end through KILLS deaths at random moments."""
    kills = 0
    while True:
        process = subprocess.Popen([BINARY, "run", str(job)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            process.wait(timeout=rng.uniform(0.05, 1.2) if kills < KILLS else None)
            break
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
    require(process.returncode == 3, f"the killed job exited {process.returncode}: {process.stderr.read().decode()}")
    return kills


with tempfile.TemporaryDirectory() as tmp:
    tmp = pathlib.Path(tmp)
    make_images(tmp / "images", 36)
    reinforce("run", write_job(tmp / "files.yaml", tmp / "images", tmp / "files", workers=WORKERS))
    shards = {name: digest for name, digest in digest_objects(tmp / "files").items() if name.endswith(".tar")}

    s3.create_bucket(Bucket="corpus")
    s3.create_bucket(Bucket="datasets")
    for path in (tmp / "images").iterdir():
        s3.upload_file(str(path), "corpus", f"some/images/{path.name}")

    def bucket_job(name, **settings):
        settings = {"workers": WORKERS, "catalog": {"url": f"sqlite:{tmp}/{name}/catalog.sqlite"}, **settings}
        return write_job(tmp / f"{name}.yaml", "s3://corpus/some/images", f"s3://datasets/{name}", **settings)

    # The manifest names the job's digest, which has the input's URL in it: the same input, to files.
    reinforce("run", bucket_job("mixed", output={"url": str(tmp / "mixed")}))
    want = digest_objects(tmp / "mixed"), dump_catalog(tmp / "mixed")
    require(shards.items() <= want[0].items(), "shards differ between images on files and on S3")
    require(dump_catalog(tmp / "files") == want[1], "the catalog differs between images on files and on S3")

    # Somebody's upload that died beside it, and one below the job's own prefix.
    s3.create_multipart_upload(Bucket="datasets", Key="other/shard")
    s3.create_multipart_upload(Bucket="datasets", Key="whole/00000000.tar")
    reinforce("run", bucket_job("whole"))
    require(not (bad := differences(digest_bucket("datasets", "whole/"), want[0])), f"{bad} differ on S3")
    require(dump_catalog(tmp / "whole") == want[1], "the catalog differs on S3")
    verified = reinforce("verify", "s3://datasets/whole", check=(0,))
    require("agree" in verified.stdout, f"verify: {verified.stdout}")

    kills = run_killed(bucket_job("killed"), random.Random(3))
    require(not (bad := differences(digest_bucket("datasets", "killed/"), want[0])), f"{bad} differ after {kills} kills")
    require(dump_catalog(tmp / "killed") == want[1], f"the catalog differs after {kills} kills")
    require(not list_keys("datasets", "killed/_reinforce/parts/"), "parts are left over")
    left = [upload["Key"] for upload in s3.list_multipart_uploads(Bucket="datasets").get("Uploads", [])]
    require(left == ["other/shard"], f"uploads are left over: {left}")

    # The job file says where the store is, and what is proposed next works as it is printed.
    environment = {name: value for name, value in os.environ.items() if name not in ("AWS_ENDPOINT_URL_S3", "AWS_REGION")}
    job = bucket_job("told", storage={"endpoint": os.environ["AWS_ENDPOINT_URL_S3"], "region": "us-east-1"})
    told = reinforce("run", job, env=environment)
    proposed = [line.split() for line in told.stdout.splitlines() if line.startswith("  reinforce verify")]
    require(proposed and "--endpoint" in proposed[0], f"what is next: {told.stdout}")
    reinforce(*proposed[0][1:], check=(0,), env=environment)

    wrong = reinforce("run", bucket_job("wrong"), check=None, env={**os.environ, "AWS_SECRET_ACCESS_KEY": "wrong"})
    require(wrong.returncode in (1, 2) and "403 SignatureDoesNotMatch" in wrong.stderr
            and "AWS_SECRET_ACCESS_KEY" in wrong.stderr, f"a wrong secret: {wrong.returncode} {wrong.stderr}")
    missing = reinforce("run", bucket_job("missing", output={"url": "s3://no-such-bucket/x"}), check=None)
    require(missing.returncode in (1, 2) and "create the bucket" in missing.stderr, f"no bucket: {missing.stderr}")

    # From the web.
    make_tars(tmp / "images", tmp / "tars")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp / "tars"))
    handler.func.log_message = lambda *args: None
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/{{0,1}}.tar"
    guarded = reinforce("run", write_job(tmp / "guarded.yaml", url, tmp / "guarded"), check=None)
    require(guarded.returncode in (1, 2) and "is private" in guarded.stderr and "allow_private" in guarded.stderr,
            f"a private address: {guarded.returncode} {guarded.stderr}")
    reinforce("run", write_job(tmp / "web.yaml", url, tmp / "web", storage={"allow_private": True}))
    reinforce("run", write_job(tmp / "tars.yaml", f"{tmp}/tars/{{0,1}}.tar", tmp / "local"))
    bad = differences(digest_objects(tmp / "web"), digest_objects(tmp / "local"))
    require(set(bad) <= {"manifest.jsonl"}, f"{bad} differ by web")
    server.shutdown()
    print(f"the same bytes on files, on S3, and on S3 after {kills} kills; from files and from the web")
