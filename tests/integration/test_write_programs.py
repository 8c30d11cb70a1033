"""Unmodified programs write below a mapping: afterwards the remote, read by another client, equals a plain folder treated the same
way, and so does all that the programs printed."""

import pytest

from tests.integration.write_rig import LOCAL, lake_of, make_lake, same_as_plain

# name: a bash script, run with its working directory in the folder; what it prints must be the same, too.
SCRIPTS = {
    "redirect": 'echo one > a; echo two >> a; cat a; : > empty; echo x >| a; { echo p; echo q; } > both; echo e 2> err; cat both; wc -c *',
    "read-write": 'printf 0123456789 > f; printf AB 1<> f; cat f; exec 7<>f; read -r -N 3 -u 7 x; echo "$x"; printf ZZ >&7; exec 7>&-; cat f',
    "many-writers": 'for i in 1 2 3 4; do (for k in 1 2 3 4 5; do echo "$i $k" >> log; done) & done; wait; sort -o log log; cat log',
    "one-descriptor": '( exec > out; echo a; python3 -c "print(1)"; perl -e "print qq(p\\n)"; dash -c "echo d"; /bin/echo e ); cat out',
    "tee": 'seq 1 500 | tee t1 t2 > t3; cmp t1 t2 && cmp t1 t3; seq 3 | tee -a t1 > /dev/null; tail -n 4 t1',
    "dd": 'dd if=/dev/zero of=d bs=64k count=20 status=none; printf MARK | dd of=d bs=1 seek=100000 conv=notrunc status=none; '
          'printf END | dd of=d bs=1 seek=70000 oflag=append conv=notrunc status=none; cksum < d; ls -s --block-size=1M d | cut -c1; '
          'dd if=d of=e bs=4k skip=3 status=none; cksum < e; truncate -s 5000 d; truncate -s 9000 e; wc -c d e',
    "sort": 'seq 1 200 > s; sort -r -o s s; head -n 3 s; sort -n -u -o s s s; tail -n 1 s',
    "sed": 'printf "a\\nb\\n" > x; sed -i s/a/A/ x; cat x; sed -i.bak s/b/B/ x; cat x x.bak; ls',
    "perl-in-place": 'printf "a\\nb\\n" > x; perl -pi -e "tr/a-z/A-Z/" x; cat x',
    "patch": 'seq 1 20 > a; sed s/7/seven/ a > b; diff -u a b > p; patch -s a p; cmp a b && echo same; patch -s -R a p; head -n 8 a; ls; rm p',
    "vim": 'seq 1 9 > v; vim -es -u NONE -N -c "%s/5/five/" -c wq v; cat v; vim -es -u NONE -N -c "set backup backupskip=" -c "normal Goend" -c wq v; cat v',
    "mkdir": 'mkdir -p a/b/c a/d; echo 1 > a/b/c/f; rmdir a/d; ls -R; mkdir a 2>&1 | sed "s/.*: //"; rmdir a 2>&1 | sed "s/.*: //"; rm -r a; ls',
    "mv": 'mkdir d e; echo 1 > f; echo 2 > d/g; mv f h; mv h d/; mv d/g d/h2; mv -n d/h d/h2; mv d e/; cat e/d/*; mv e/d/h x; mv -T x e/d/h2; ls -R; '
          'cat e/d/h2',
    "mv-across": 'mkdir d; echo 1 > d/a; echo 2 > b; T=$(mktemp -d); mv d b $T/; ls; echo new > $T/d/n; mv $T/d/n $T/b .; mv $T/d .; ls -R; cat d/a b n; '
                 'rmdir $T',
    "cp": 'mkdir s; for i in 1 2 3; do seq $i 100 > s/$i; done; touch -d 2020-02-02T02:02:02 s/1; chmod 600 s/2; cp -a s t; ls -l --time-style=+%Y t | '
          'cut -d" " -f1,5-; cp s/1 u; cp -f s/2 u; cmp u s/2; cp --sparse=always s/3 w; cp -r s/. t; ls t; install -m 755 s/1 bin; ls -l bin | cut -c1-10',
    "rsync": 'mkdir s; for i in 1 2 3; do seq $i 100 > s/$i; done; T=$(mktemp -d); cp -a s $T/; rsync -a $T/s/ r/; rsync -ai $T/s/ r/; echo + >> $T/s/2; touch -d 2030-01-01 $T/s/2; '
             'rsync -a --delete --itemize-changes $T/s/ r/ | cut -c1-12; rsync -a r/ $T/back/; diff -r $T/back $T/s && echo same; rm -r $T',
    "tar": 'T=$(mktemp -d); mkdir -p $T/x/y; seq 1 50 > $T/x/1; echo hi > "$T/x/y/a b"; chmod 640 $T/x/1; tar -C $T -cf $T/t.tar x; tar xf $T/t.tar; ls -lR x | '
           'grep -v total | cut -c1-10; cat x/y/*; tar czf out.tgz x; tar tzf out.tgz | sort; tar xzf out.tgz; rm -r $T; rm out.tgz',
    "zip": 'mkdir z; seq 1 50 > z/1; echo hi > z/2; zip -qr z.zip z; unzip -qo z.zip; unzip -l z.zip | tail -n 1 | tr -s " "; rm -r z; unzip -q z.zip; cat z/2; '
           'rm z.zip',
    "mktemp": 'a=$(mktemp ./t.XXXXXX); b=$(mktemp -d ./d.XXXXXX); test -f $a && test -d $b && echo both; stat -c %a $a $b; echo 1 > $b/x; rm -r $a $b; ls',
    "umask": 'umask 027; echo 1 > a; mkdir d; umask 077; echo 1 > b; (umask 0; echo 1 > c); stat -c "%a %n" *',
    "chmod": 'echo 1 > a; mkdir d; chmod 640 a; chmod u+x a; chmod 700 d; stat -c "%a %n" *; touch -d 2001-01-01T01:01:01 a; stat -c %Y a; touch a; '
             'test $(stat -c %Y a) -gt 1000000000 && echo now; touch -c none; touch new; ls',
    "symlinks": 'mkdir d; echo 1 > d/f; ln -s f d/l; ln -s d k; ln -s none dangling; cat d/l k/f k/l; readlink d/l k dangling; ls -F . d; ls -L k; '
                'test -e dangling || echo none; rm d/l dangling; (cd k && pwd -P | sed "s:.*/::"); rm k; ls',
    "make": 'printf "int f(void){return 3;}\\n" > f.c; printf "int f(void);int main(void){return f();}\\n" > m.c; '
            'printf "prog: f.o m.o\\n\\tgcc -o prog f.o m.o\\n%%.o: %%.c\\n\\tgcc -c -o \\$@ \\$<\\n" > Makefile; make -s -j2; ./prog; echo $?; '
            'make -s -j2 -q && echo current; echo >> f.c; make -s; ./prog; echo $?; printf "#!/bin/sh\\necho script\\n" > s; chmod +x s; ./s; cp -p prog q; ./q; echo $?; rm -f *.o prog q',
    "python": '''python3 - <<'X'
import os, shutil, tempfile
open("w", "w").write("text")
with open("r+", "w+b") as f: f.write(b"0123456789"); f.seek(3); f.write(b"xyz"); f.seek(0); print(f.read())
with open("a", "a") as f: f.write("1"); f.flush(); print(os.path.getsize("a"), os.fstat(f.fileno()).st_size)
with open("a", "a") as f: print(f.tell()); f.write("2")
try: open("w", "x")
except FileExistsError as e: print(e.errno)
open("x", "x").write("x")
fd = os.open("o", os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o640); os.write(fd, b"abc"); os.ftruncate(fd, 2); os.pwrite(fd, b"Z", 5); print(os.pread(fd, 9, 0))
os.close(fd); print(oct(os.stat("o").st_mode))
with tempfile.NamedTemporaryFile(dir=".", delete=False) as f: f.write(b"named")
os.replace(f.name, "named"); print(open("named").read())
with tempfile.TemporaryFile(dir=".") as f: f.write(b"none"); f.seek(0); print(f.read())
with tempfile.TemporaryDirectory(dir=".") as d: open(d + "/f", "w").write("1"); print(os.listdir(d))
shutil.copy("w", "copy"); shutil.copytree(".", "../tree-of-python") if False else None
os.makedirs("m/n/o"); shutil.move("copy", "m/n"); print(sorted(os.listdir("m/n"))); shutil.rmtree("m")
dup = os.dup(os.open("dup", os.O_WRONLY | os.O_CREAT)); os.write(dup, b"d"); os.close(dup)
st = os.stat("w"); os.utime("w", ns=(1, 1_500_000_000_123_456_789)); print(os.stat("w").st_mtime_ns)
os.rename("dup", "dup2"); os.remove("x"); print(sorted(os.listdir(".")))
X''',
    "mmap": '''python3 - <<'X'
import mmap, os
with open("m", "w+b") as f:
    f.truncate(8192)
    with mmap.mmap(f.fileno(), 8192) as m: m[0:5] = b"first"; m[5000:5004] = b"last"; m.flush()
print(open("m", "rb").read().count(b"last"), os.path.getsize("m"))
f = open("n", "w+b"); f.truncate(4096); m = mmap.mmap(f.fileno(), 4096); f.close(); m[10:12] = b"in"; m.close()
print(open("n", "rb").read()[10:12])
X''',
    "sqlite": '''python3 - <<'X'
import sqlite3
for mode in ("delete", "wal", "truncate"):
    db = sqlite3.connect(mode + ".db"); print(db.execute(f"pragma journal_mode={mode}").fetchone())
    db.execute("create table t(a, b)"); db.executemany("insert into t values(?, ?)", [(i, "x" * i) for i in range(200)]); db.commit()
    db.execute("delete from t where a % 3 = 0"); db.commit(); print(db.execute("select count(*), sum(a) from t").fetchone())
    db.execute("vacuum"); db.close()
    print(sqlite3.connect(mode + ".db").execute("pragma integrity_check").fetchone())
X
ls''',
    "numpy": '''python3 - <<'X'
import numpy as np
np.save("a.npy", np.arange(1000).reshape(10, 100)); np.savez("z.npz", x=np.ones(5), y=np.zeros(3))
m = np.memmap("mm", dtype="int32", mode="w+", shape=(1000,)); m[:] = 7; m.flush(); del m
print(np.load("a.npy").sum(), np.load("z.npz")["x"].sum(), np.memmap("mm", dtype="int32", mode="r").sum())
r = np.lib.format.open_memmap("om.npy", mode="w+", dtype="f4", shape=(3, 3)); r[1] = 2; del r; print(np.load("om.npy", mmap_mode="r").sum())
X
rm z.npz''',
    "git": 'export HOME=$PWD/.. GIT_CONFIG_NOSYSTEM=1 GIT_AUTHOR_DATE="1700000000 +0000" GIT_COMMITTER_DATE="1700000000 +0000"; g="git -c user.name=n -c user.email=e '
           '-c init.defaultBranch=m -c gc.auto=0"; $g init -q r; cd r; seq 1 100 > a; mkdir d; echo 1 > d/b; $g add .; $g commit -qm one; $g status --short; '
           'echo 2 >> a; $g diff --stat; $g commit -qam two; $g checkout -q -b br HEAD~1; wc -l < a; $g checkout -q m; wc -l < a; $g gc -q; $g fsck; $g log --format=%H; '
           '$g clone -q . ../c 2>&1; cd ../c; $g log --format=%s; $g mv d/b e; $g rm -q a; $g status --short; cd ..; rm -rf r/.git c/.git; rm -r c',
}


IMPORTS = {"numpy": "numpy"}  # what must be installed


@pytest.fixture(params=["file-sync", "file-async", "versitygw-sync", "versitygw-async", "azurite-sync", "azurite-async"])
def lake(request, prelux):
    kind, write = request.param.split("-")
    if kind == "file":
        yield make_lake(prelux, write=write)
    else:
        with lake_of(prelux, kind, write=write) as lake:
            yield lake


@pytest.mark.parametrize("kind", ["versitygw", "azurite"])
def test_a_prefix_of_which_the_store_knows_nothing(prelux, kind):
    """Keys begin with it once something is written: until then its root is an empty folder."""
    with lake_of(prelux, kind, below="not/yet", write="sync") as lake:
        done = lake.run(f"ls -a {LOCAL} && test -d {LOCAL} && ! test -e {LOCAL}/x && ! echo 1 2>/dev/null > {LOCAL}/d/f && echo 2 > {LOCAL}/x && ls {LOCAL} && "
                        f"mkdir {LOCAL}/d && echo 3 > {LOCAL}/d/f && rm {LOCAL}/x && find {LOCAL} | sort")
        assert done.stdout == f".\n..\nx\n{LOCAL}\n{LOCAL}/d\n{LOCAL}/d/f\n"
        assert lake.seen() == {"not/yet/d/f": ("file", None, b"3\n")}


@pytest.mark.parametrize("name", SCRIPTS)
def test_program(lake, name):
    if name in IMPORTS and lake.plain(["python3", "-c", f"import {IMPORTS[name]}"], check=False).returncode:
        pytest.skip(f"no python3-{IMPORTS[name]} here")
    same_as_plain(lake, SCRIPTS[name])
