"""Programs that change names, attributes and links below a writable mapping: what they print and leave is that of a plain folder."""

import os

import pytest

from tests.integration.write_rig import LOCAL, make_lake, same_as_plain, settled

SCRIPTS = {
    "mkdir": "mkdir -p a/b/c a/b/d; mkdir a 2>&1; mkdir -m 700 e; mkdir -p a/b/c/; stat -c '%A %n' a a/b e; rmdir -p a/b/c 2>&1; rmdir a/b/d; "
             "rmdir -p a/b; ls -A",
    "rm": "mkdir -p t/u/v; for i in 1 2 3 4 5 6 7 8; do echo $i > t/u/f$i; ln -s f$i t/u/l$i; done; rm t 2>&1; rm -d t 2>&1; "
          "rm t/u/f1; rm -f t/none; "
          "rm -r t; ls -A; mkdir -p x/y; touch x/y/z; (cd x/y; rm -rf ../y); ls -A x; find x -delete; ls -A",
    "mv": "mkdir d e; echo f > f; mv f g; mv g d; mv d/g d/h; mv d e; ls -R; echo 1 > a; echo 2 > b; mv a b; cat b; mv -n e/d/h b; "
          "cat b; mv e/d/h e; "
          "mv -b b e/h; ls e; mv e b 2>&1; ls; mkdir full; touch full/x; mkdir empty; mv -T e full 2>&1; mv -T e empty; ls empty",
    "ln": "echo text > f; mkdir d; ln -s f l; ln -s ../f d/up; ln -s d dl; ln -sf none l2; ln -sfn f l2; cat l d/up dl/up; readlink l d/up dl l2; "
          "readlink -f dl/up | sed 's#.*/##'; ls -l | cut -d' ' -f1 | cut -c1-10; ln f hard 2>/dev/null || echo none > hard; "
          "echo more >> l; cat f; ln -s f l 2>&1; "
          "mv l moved; cat moved; rm l2; test -h moved -a ! -e l2 && echo yes; ls -F; cp -P moved again; readlink again; "
          "ln -s loop loop; cat loop 2>&1; rm loop moved again dl d/up; rm -f hard; ls -R",
    "links-in-paths": "mkdir -p a/b; ln -s a/b s; echo 1 > s/f; cat a/b/f; (cd s; pwd | sed 's#.*/##'; pwd -P | sed 's#.*/a/#a/#'; cat ../b/f; "
                      "ls ..); cat s/../b/f; mv s/f s/g; ls a/b; "
                      "mkdir s/n; touch s/n/x; find . | sort; find -L . -name x | sort; test s/n -ef a/b/n && echo same; echo s/*; rm -r s/; "
                      "rm -rf s; find a; ",
    "chmod": "touch f; mkdir d; chmod 600 f; chmod 750 d; stat -c '%a %n' f d; chmod u+x,go= f; chmod -R g+w d; stat -c '%a %n' f d; chmod +t d; "
             "stat -c %A d; ln -s f l; chmod 644 l; stat -c '%a %n' f; chmod --reference=f d; stat -c %a d; chmod 600 none 2>&1; "
             "echo x > f; stat -c %a f",
    "touch": "touch -d '2020-02-02 02:02:02.123456789 UTC' a; stat -c %y a; touch -r a b; stat -c '%y %s' b; mkdir d; "
             "touch -d @1000 d; stat -c %Y d; "
             "touch -c none; ls -A; echo 1 > c; touch -d @2000 c; cat c; stat -c %Y c; echo 2 >> c; "
             "test $(stat -c %Y c) -gt 2000 && echo newer; touch -m -d @3000 c; "
             "ln -s c l; touch -h -d @4000 l; stat -c %Y c; touch -d @5000 l; stat -c %Y c; test a -ot c; echo $?; mv c e; "
             "stat -c %Y e; cp -p e f; stat -c %Y f",
    "cp": "mkdir -p s/t; echo 1 > s/f; chmod 640 s/f; touch -d @1000 s/f s/t; ln -s f s/l; cp -a s c; stat -c '%a %Y %n' c/f c/t; "
          "readlink c/l; cp -r s r; cat r/l; "
          "cp -s $PWD/s/f sl; cat sl; rm sl; cp -u s/f c/f; cp --attributes-only --preserve=all s/f n; stat -c '%a %Y %s' n; "
          "cp -l s/f h 2>/dev/null; rm -f h; "
          "cp --parents s/t/../f r; cp -d s/l x; readlink x; diff -r s c && echo equal",
    "install": "echo prog > p; install -m 755 p q; install -D -m 640 p a/b/c; install -d -m 700 x/y; stat -c '%a %n' q a/b/c x/y; install -p p r; "
               "test $(stat -c %Y p) = $(stat -c %Y r) && echo times; install -b -m 600 p q; ls",
    "archives": "mkdir -p s/d; echo 1 > s/f; ln -s f s/l; ln -s ../f s/d/u; chmod 700 s/d; touch -d @1000 s/f; tar cf t.tar s; rm -r s; "
                "tar xf t.tar; stat -c '%a %Y %n' s/f; stat -c %a s/d; "
                "readlink s/l s/d/u; cat s/d/u; tar df t.tar; echo $?; cp -a s $TMPDIR/s2; rm -r s; mv $TMPDIR/s2 .; cat s2/d/u; "
                "ls -A $TMPDIR; rm t.tar",
    "find": "mkdir -p a/b; touch a/1 a/b/2; ln -s b a/l; find . -type l; find . -type f | sort | xargs -I{} mv {} {}.x; "
            "find . -name none -exec mv {} {}.x \\;; find -L . -name '2.x' | sort; find . -depth -empty | sort; "
            "find . -name '*.x' -exec chmod 600 {} +; find . -perm 600 | sort; find . -depth -delete; ls -A",
    "python": """python3 - <<'P'
import os, pathlib, shutil, tempfile
p = pathlib.Path("d"); (p / "e").mkdir(parents=True); (p / "f").write_text("1"); (p / "l").symlink_to("f")
print(sorted(x.name for x in p.iterdir()), (p / "l").is_symlink(), (p / "l").read_text())
print(os.path.realpath("d/l")[-3:], os.readlink("d/l"))
shutil.copytree("d", "c", symlinks=True); shutil.move("c", "m"); (p / "f").replace("m/f")
print(sorted(os.listdir("m")), (p / "l").exists())
with os.scandir("m") as it: print(sorted((e.name, e.is_symlink(), e.is_dir()) for e in it))
with tempfile.TemporaryDirectory(dir=".") as t: open(t + "/x", "w").close(); print(os.stat(t).st_mode & 0o777)
with tempfile.NamedTemporaryFile(dir=".") as t: t.write(b"x"); t.flush(); print(os.stat(t.name).st_size, os.stat(t.name).st_mode & 0o777)
shutil.rmtree("m"); os.chmod("d", 0o700); os.utime("d", (1, 2)); print(os.stat("d").st_mtime, oct(os.stat("d").st_mode))
wrong = (os.rmdir, "d"), (os.unlink, "d"), (os.mkdir, "d"), (os.rename, "d", "d/e/x"), (os.rename, "none", "x"), (os.link, "none", "x")
for fn, *args in wrong:
    try: fn(*args)
    except OSError as e: print(fn.__name__, e.errno)
os.unlink("d/l")
P""",
}


@pytest.fixture(params=["sync", "async"])
def lake(prelux, request):
    return make_lake(prelux, write=request.param)


@pytest.mark.parametrize("name", SCRIPTS)
def test_as_in_a_plain_folder(lake, name):
    scratch = lake.tmp / "scratch"
    scratch.mkdir()
    # Links stay on the node: the remote is compared without them, so a script ends with none, or compares by itself.
    same_as_plain(lake, f"export TMPDIR={scratch}; {SCRIPTS[name]}\nfind . -type l -delete", timeout=100)


def test_links_are_the_nodes(lake):
    """They outlive a daemon that is killed; rename, replace and remove them; the remote never sees one."""
    lake.run(f"cd {LOCAL}; mkdir d; echo text > d/f; ln -s d/f one; ln -s d two; ln -s {lake.tmp} out; ln -s nowhere three; mv three d/three")
    settled(lake)
    assert sorted(p.name for p in lake.remote.rglob("*")) == ["d", "f"]
    lake.kill_daemon()
    done = lake.run(f"cd {LOCAL}; cat one two/f; readlink one two out d/three; ls -d out/remote; ls two; "
                    f"mv d e; cat two/f || cat e/f; readlink e/three")
    assert done.stdout.split() == ["text", "text", "d/f", "d", str(lake.tmp), "nowhere", "out/remote", "f", "three", "text", "nowhere"]
    lake.run(f"cd {LOCAL}; rm one two out; rm -r e; test -z \"$(ls -A)\"")
    assert not os.listdir(lake.remote)


def test_a_mapping_left_and_entered_by_dots(lake):
    """cd into the mapping, then write to a name behind "..": outside, where it says."""
    top = lake.tmp / "top"
    (top / "out").mkdir(parents=True)
    local = str(top / "lake")
    lake.file_mapping(lake.remote, local, write="sync")
    lake.run(f"mkdir {local}/d; cd {local}/d; echo 1 > ../../out/one; echo 2 > ../two; mkdir ../../out/dir; "
             f"mv ../../out/one ../../out/dir; cat ../../out/dir/one")
    assert (top / "out/dir/one").read_text() == "1\n" and (lake.remote / "two").read_text() == "2\n"
    found = {p.name for p in lake.cache.rglob("*")}
    assert not {"one", "out", "dir"} & found


@pytest.mark.parametrize("name", ["mv a b", "mkdir c", "rm a", "rmdir d", "ln -s x l", "chmod 600 a"])
def test_daemon_killed_between_changes(lake, name):
    """Each change is asked of the next daemon."""
    lake.run(f"cd {LOCAL}; echo 1 > a; mkdir d")
    settled(lake)
    lake.kill_daemon()
    lake.run(f"cd {LOCAL}; {name}")
