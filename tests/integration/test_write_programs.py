"""Unmodified programs write below a mapping: afterwards the remote, read by another client, equals a plain folder treated the same
way, and so does all that the programs printed. FULL=1: virtual environments everywhere."""

import os
import sys

import pytest

from tests.integration.crash_rig import FULL
from tests.integration.write_rig import LOCAL, lake_of, make_lake, same_as_plain
from tests.servers import safetensors

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
    "h5py": '''python3 - <<'X'
import h5py, numpy as np
with h5py.File("a.h5", "w") as f:
    f.create_dataset("plain", data=np.arange(5000.0)); g = f.create_group("g"); g.attrs["k"] = 3
    g.create_dataset("packed", data=np.arange(60000).reshape(300, 200), chunks=(50, 50), compression="gzip", maxshape=(None, 200))
with h5py.File("a.h5", "r+") as f:
    f["plain"][100:200] = -1; d = f["g/packed"]; d.resize((320, 200)); d[300:] = 7; print(d.shape, d[()].sum(), f["plain"][()].sum())
    try: h5py.File("a.h5", "w")
    except OSError as e: print("held")
with h5py.File("a.h5", "a") as f: f["more"] = [1, 2, 3]; del f["plain"]
with h5py.File("a.h5", "r") as f: print(sorted(f), f["g"].attrs["k"], f["g/packed"][310, 5], f["more"][:])
w = h5py.File("swmr.h5", "w", libver="latest"); d = w.create_dataset("d", (0,), maxshape=(None,), dtype="i4"); w.swmr_mode = True
r = h5py.File("swmr.h5", "r", libver="latest", swmr=True)
for n in range(5): d.resize((n + 1,)); d[n] = n; d.flush(); r["d"].refresh(); print(r["d"][:])
r.close(); w.close()
X
rm swmr.h5''',  # it holds the time
    "safetensors": '''python3 - <<'X'
import numpy as np
from safetensors import safe_open
from safetensors.numpy import load, load_file, save, save_file
save_file({"w": np.arange(30000, dtype="f4").reshape(100, 300), "b": np.ones(7, "i8")}, "m.safetensors", metadata={"by": "a test"})
print({name: t.sum() for name, t in sorted(load_file("m.safetensors").items())})
with safe_open("m.safetensors", "np") as f: print(sorted(f.keys()), f.metadata(), f.get_slice("w")[3:5, :2], f.get_tensor("b"))
save_file({"w": np.zeros(3, "f4")}, "m.safetensors"); print(load_file("m.safetensors"))
open("bytes", "wb").write(save({"x": np.arange(5)})); print(load(open("bytes", "rb").read()))
X''',
    "torch": '''python3 - <<'X'
import os, torch
torch.manual_seed(1)
model = torch.nn.Sequential(torch.nn.Linear(200, 100), torch.nn.ReLU(), torch.nn.Linear(100, 10)); optimizer = torch.optim.SGD(model.parameters(), 0.1)
for epoch in range(3):
    model(torch.ones(4, 200)).sum().backward(); optimizer.step()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": epoch}, "ckpt.tmp"); os.replace("ckpt.tmp", "ckpt.pt")
    torch.save(model.state_dict(), "last.pt")
torch.save(torch.arange(1000), "old.pt", _use_new_zipfile_serialization=False)
with open("opened.pt", "wb") as f: torch.save([torch.zeros(3)], f)
state = torch.load("ckpt.pt"); model.load_state_dict(state["model"]); print(state["epoch"], sum(t.double().sum().item() for t in torch.load("last.pt").values()))
print(torch.load("old.pt").sum(), torch.load("opened.pt"), torch.load(open("ckpt.pt", "rb"), map_location="cpu")["epoch"])
torch.jit.save(torch.jit.script(torch.nn.Linear(3, 2)), "script.pt"); print(torch.jit.load("script.pt")(torch.zeros(1, 3)).shape)
os.remove("old.pt"); os.remove("script.pt")  # no two processes write the same into them, wherever they are
t = torch.from_file("shared.bin", shared=True, size=1000, dtype=torch.int32); t.fill_(5); del t; print(torch.from_file("shared.bin", size=1000, dtype=torch.int32).sum())
X''',
    # A virtual environment knows where it lies: names of the folder are taken out of it before the remotes are compared, with what is made of them.
    "venv": '''python3 - <<'X'
import zipfile
meta = "tool-1.0.dist-info/"
with zipfile.ZipFile("tool-1.0-py3-none-any.whl", "w", zipfile.ZIP_DEFLATED) as z:
    for name, text in (("tool/__init__.py", "def main(): print('tool runs')\\n"), ("tool/data.txt", "data" * 500),
                       (meta + "METADATA", "Metadata-Version: 2.1\\nName: tool\\nVersion: 1.0\\n"), (meta + "entry_points.txt", "[console_scripts]\\ntool = tool:main\\n"),
                       (meta + "WHEEL", "Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"), (meta + "RECORD", "")):
        z.writestr(zipfile.ZipInfo(name, (2020, 2, 2, 2, 2, 2)), text)
X
PIP="pip --isolated --disable-pip-version-check --python v/bin/python -q"; python3 -m venv --without-pip v; ls v v/bin | grep -v ctivate; readlink v/lib64
cut -d/ -f1 v/pyvenv.cfg; python3 -m $PIP install --no-index --no-cache-dir ./tool-1.0-py3-none-any.whl; v/bin/tool
(. v/bin/activate; tool; python -c 'import sys, tool, importlib.resources as r; print(sys.prefix != sys.base_prefix, len(r.files(tool).joinpath("data.txt").read_text()))')
python3 -m $PIP uninstall -y tool; ls -d v/lib/python3*/site-packages/tool* 2>&1 | sed 's/python3.*//'
python3 -m $PIP install --no-index --find-links . --no-compile --no-cache-dir tool; v/bin/tool; mv v x; x/bin/python -c 'import tool; tool.main()'; mv x v
find v -name __pycache__ -prune -exec rm -r {} +; find v -name RECORD -exec sed -i 's/,.*//; /pycache/d' {} +; grep -rlI "$PWD" v | xargs sed -i "s:$PWD:@:g"
find v -type l -delete; find v -name direct_url.json; find v -type f | wc -l''',
    "git": 'export HOME=$PWD/.. GIT_CONFIG_NOSYSTEM=1 GIT_AUTHOR_DATE="1700000000 +0000" GIT_COMMITTER_DATE="1700000000 +0000"; g="git -c user.name=n -c user.email=e '
           '-c init.defaultBranch=m -c gc.auto=0"; $g init -q r; cd r; seq 1 100 > a; mkdir d; echo 1 > d/b; $g add .; $g commit -qm one; $g status --short; '
           'echo 2 >> a; $g diff --stat; $g commit -qam two; $g checkout -q -b br HEAD~1; wc -l < a; $g checkout -q m; wc -l < a; $g gc -q; $g fsck; $g log --format=%H; '
           '$g clone -q . ../c 2>&1; cd ../c; $g log --format=%s; $g mv d/b e; $g rm -q a; $g status --short; cd ..; rm -rf r/.git c/.git; rm -r c',
}


# What must be installed, and how it comes to be.
IMPORTS = {"numpy": ("numpy", "make deps: python3-numpy"), "h5py": ("h5py", "make deps: python3-h5py"), "venv": ("ensurepip, venv", "make deps: python3-venv"),
           "safetensors": ("safetensors.numpy", "python3 -m tests.servers.safetensors --install"), "torch": ("torch", "make full does: python3-torch, 600 MB")}


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


def same(lake, name, timeout=200):
    lake.env["PATH"] = f"{os.path.dirname(sys.executable)}:{lake.env['PATH']}"  # the Python that runs the tests has what they need
    lake.env["PYTHONPATH"] = f"{safetensors.PATH}:{lake.env.get('PYTHONPATH', '')}"
    if name in IMPORTS and lake.plain(["python3", "-c", f"import {IMPORTS[name][0]}"], check=False).returncode:
        pytest.skip(f"{name} is not installed ({IMPORTS[name][1]})")
    same_as_plain(lake, SCRIPTS[name], timeout=timeout)


@pytest.mark.parametrize("name", [name for name in SCRIPTS if name != "venv"])
def test_program(lake, name):
    same(lake, name)


# Some thousand files each, a minute or two: of those that are sent elsewhere one has to do when not all is run, and of async the one below.
@pytest.mark.slow
@pytest.mark.limit(400)
@pytest.mark.parametrize("lake", ["file-sync", "versitygw-sync", *(["file-async", "versitygw-async", "azurite-sync", "azurite-async"] if FULL else [])],
                         indirect=True)
def test_a_virtual_environment(lake):
    same(lake, "venv", timeout=300)


OWN_PIP = """set -e; python3 -m venv v; v/bin/pip --isolated --disable-pip-version-check list --format=freeze; v/bin/pip --isolated -q uninstall -y setuptools
v/bin/python -c 'import sys; print(sys.prefix != sys.base_prefix)'; find v -type f | sed 's/python3[^/]*/py/' | LC_ALL=C sort | cksum; rm -rf v; ls"""


@pytest.mark.slow
@pytest.mark.limit(400)
@pytest.mark.parametrize("write", ["sync", "async"] if FULL else ["async"])
def test_a_virtual_environment_with_a_pip_of_its_own(prelux, write):
    if prelux.plain(["python3", "-c", "import ensurepip, venv"], check=False).returncode:
        pytest.skip("venv is not installed (make deps: python3-venv)")
    same_as_plain(make_lake(prelux, write=write), OWN_PIP, timeout=300)
