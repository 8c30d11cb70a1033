"""Peers that mount a bucket by FUSE, where they are installed."""

import contextlib
import os
import shutil
import subprocess

from tests.harness import wait_for


@contextlib.contextmanager
def _mounted(target, argv):
    env = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "RCLONE_"))}
    target.mkdir(parents=True, exist_ok=True)
    process = subprocess.Popen([str(word) for word in argv], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=env)
    try:
        wait_for(lambda: os.path.ismount(target), 30, f"{argv[0]} at {target}")
        yield target
    finally:
        subprocess.run(["fusermount", "-u", str(target)], check=False)
        process.wait(60)


def s3fs(server, bucket, folder, url=None, options=()):
    """A new mount of the bucket with a new cache, as a context."""
    secret = folder / "s3fs-secret"
    secret.write_text(f"{server.access_key}:{server.secret_key}\n")
    secret.chmod(0o600)
    shutil.rmtree(folder / "s3fs-cache", ignore_errors=True)
    return _mounted(folder / "mount", ["s3fs", bucket, folder / "mount", "-f", "-o", f"url={url or server.url}", "-o", "use_path_request_style",
                                       "-o", f"passwd_file={secret}", "-o", f"use_cache={folder}/s3fs-cache", *options])


def rclone(server, bucket, folder, url=None, options=()):
    conf = folder / "rclone.conf"
    conf.write_text(f"[r]\ntype = s3\nprovider = Other\naccess_key_id = {server.access_key}\nsecret_access_key = {server.secret_key}\n"
                    f"endpoint = {url or server.url}\nforce_path_style = true\n")
    shutil.rmtree(folder / "rclone-cache", ignore_errors=True)
    return _mounted(folder / "mount", ["rclone", "--config", conf, "mount", f"r:{bucket}", folder / "mount", "--vfs-cache-mode", "full",
                                       "--cache-dir", folder / "rclone-cache", *options])


def there(peer):
    """False: it cannot be had here."""
    return shutil.which(peer.__name__) is not None and os.access("/dev/fuse", os.W_OK)


PEERS = (s3fs, rclone)
