"""Programs of docs/PROGRAMS.md that deal in data sets and models, and Go with cgo. test_runtimes.py runs them."""

import shutil
import subprocess

from tests.servers import safetensors
from tests.servers.pythons import LEARNING, PYARROW, TFRECORD


class Module:
    """A module of the Python that the machine has: not of any that comes first in PATH, for it is asked, and used, by this name."""

    def __init__(self, name, program="/usr/bin/python3", path=""):
        assert program.startswith("/")
        self.version, self.program, self.path = name, program, str(path)

    def installed(self):
        if not shutil.which(self.program):
            return False
        argv = [self.program, "-c", f"import {self.version}"]
        return subprocess.run(argv, env={"PYTHONPATH": self.path, "PATH": "/usr/bin:/bin"}, capture_output=True).returncode == 0


# Go's own package os makes system calls directly; what a program does by cgo goes through libc. So this does all by cgo, and "own" is for doctor.
GO = r'''
package main

/*
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
static void reads(void) {
  long sum = 0, n;
  char part[21] = {0};
  FILE *f = fopen("data", "r");
  while (fscanf(f, "%ld", &n) == 1) sum += n;
  fclose(f);
  int fd = open("d/link", O_RDONLY);
  if (pread(fd, part, 20, 0) < 0 || close(fd)) abort();
  printf("%ld %s %d\n", sum, part, access("none", F_OK));
}
static void writes(void) {
  struct stat st;
  FILE *f = fopen("f", "w+");
  fprintf(f, "abc");
  fseek(f, 1, SEEK_SET);
  fputc('X', f);
  fclose(f);
  if (rename("f", "g") || truncate("g", 2) || mkdir("m", 0755) || rmdir("m") || stat("g", &st)) abort();
  printf("%ld\n", (long)st.st_size);
}
static int seen(const char *path, const struct stat *st, int type, struct FTW *at) {
  printf("%s %d\n", path, type);
  return 0;
}
static void walks(void) {
  struct dirent **list;
  int n = scandir("d", &list, NULL, alphasort);
  for (int i = 0; i < n; i++) printf("%s %d\n", list[i]->d_name, list[i]->d_type);
  if (nftw("d/b", seen, 8, FTW_PHYS | FTW_DEPTH)) abort();
}
static void maps(void) {
  int fd = open("data", O_RDWR);
  char *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  close(fd);
  memcpy(p, "go", 2);
  printf("%.5s\n", p);
  munmap(p, 4096);
}
static void spawns(void) {
  char line[99];
  if (system("./s x")) abort();
  FILE *f = popen("./s y", "r");
  while (fgets(line, sizeof line, f)) fputs(line, stdout);
  pclose(f);
}
static void work(void) {
  const char *cell = getenv("CELL");
  setvbuf(stdout, NULL, _IONBF, 0);
  (*cell == 'r' ? reads : cell[1] == 'r' ? writes : *cell == 'w' ? walks : *cell == 'm' ? maps : spawns)();
}
*/
import "C"
import "syscall"

func main() {
	if path, own := syscall.Getenv("OWN"); own {
		fd, _ := syscall.Open(path, 0, 0)
		println(fd >= 0)
		return
	}
	C.work()
}
'''


def by_python(program, path, *lines):
    script = "\n".join(lines)
    assert "'" not in script
    return f"PYTHONPATH={path} {program} -W ignore -c '{script}'"


def arrow(*lines):
    return by_python(PYARROW.program, "", *lines)


def weights(*lines):
    return by_python("/usr/bin/python3", safetensors.PATH, *lines)


def hdf5(*lines):
    return by_python("/usr/bin/python3", "", *lines)


def torch(*lines):
    """A file that is run, for workers that are spawned read it, too."""
    script = "\n".join(lines)
    return f"T=$(mktemp -d); cat > $T/t.py <<'E'\n{script}\nE\n/usr/bin/python3 -W ignore $T/t.py; rm -r $T"


def learning(*lines):
    """No progress, no network; what it caches lies in the mapping, under names that hold times and places."""
    head = "export HF_HOME=$PWD/home HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=1 HF_DATASETS_DISABLE_PROGRESS_BARS=1 TQDM_DISABLE=1; "
    return head + by_python(LEARNING.program, "", *lines) + "; rm -rf home saved"


def records(*lines):
    return by_python(TFRECORD.program, "", *lines)


DATASET = [
    "import glob, multiprocessing, os, sys, torch, torch.utils.data as u",
    "class Numbers(u.Dataset):",
    "    def __init__(self): self.names = sorted(glob.glob('n/*/*.pt'))",
    "    def __len__(self): return len(self.names)",
    "    def __getitem__(self, i): return torch.load(self.names[i]).sum()",
    "def make():",
    "    for i in range(24):",
    "        os.makedirs(f'n/{i % 3}', exist_ok=True); torch.save(torch.full((100,), i), f'n/{i % 3}/{i:02}.pt')",
]
MAIN = "if __name__ == '__main__':"

DATA = {
    "HDF5 (h5py)": ([Module("h5py")], {
        "reads": hdf5(
            'import h5py, os, numpy as n',
            'f = h5py.File("x.h5", "w"); f["a"] = n.arange(50000); f.create_dataset("z", data=n.ones((300, 200)), chunks=(50, 50), compression="gzip"); f.close()',
            'f = h5py.File("x.h5"); print(f["a"][1000:1010], f["z"][40:60, 10:30].sum(), sorted(f)); f.close()',
            'f = h5py.File("x.h5", driver="core"); print(f["a"][-1]); f.close(); f = h5py.File("x.h5", driver="stdio"); print(f["a"][7]); f.close(); os.remove("x.h5")'),
        "writes": hdf5(
            'import h5py, os, numpy as n',
            'f = h5py.File("x.h5", "w"); d = f.create_dataset("d", (10,), maxshape=(None,)); d.resize((9000,)); d[:] = 3; f.close()',
            'f = h5py.File("x.h5", "a"); f["d"][100:200] = 1; f["e"] = "text"; del f["e"]; f.flush(); print(f["d"][:].sum())',
            'try: h5py.File("x.h5", "w")',
            'except OSError: print("held")',
            'f.close(); os.remove("x.h5")')}),
    "Parquet and Arrow (pyarrow)": ([PYARROW], {
        "reads": arrow(
            'import pyarrow.parquet as p, pyarrow.csv as c, pyarrow as a, os',
            't = c.read_csv("data", c.ReadOptions(column_names=["n"])); print(t.num_rows, sum(t["n"].to_pylist())); p.write_table(t, "p", row_group_size=999)',
            'f = p.ParquetFile("p"); print(f.metadata.num_row_groups, f.read_row_group(3)["n"][5], p.read_table("p", filters=[("n", "<", 5)]).num_rows, '
            'p.read_table("p", pre_buffer=True, use_threads=True).num_rows); os.remove("p")'),
        "writes": arrow(
            'import pyarrow as a, pyarrow.parquet as p, pyarrow.feather as f, pyarrow.csv as c',
            't = a.table({"n": range(5000), "s": [str(i) for i in range(5000)]}); w = p.ParquetWriter("p", t.schema, compression="zstd"); w.write(t); w.write(t); w.close()',
            'f.write_feather(t, "f"); c.write_csv(t, "c"); s = a.OSFile("ipc", "wb"); w = a.ipc.new_file(s, t.schema); w.write_table(t, 700); w.close(); s.close()',
            'print(p.read_table("p").num_rows, f.read_table("f").num_rows, open("c").read(30), a.ipc.open_file("ipc").num_record_batches)'),
        "walks": arrow(
            'import pyarrow as a, pyarrow.dataset as d',
            't = a.table({"k": [i % 3 for i in range(300)], "v": range(300)}); d.write_dataset(t, "ds", format="parquet", partitioning=["k"], partitioning_flavor="hive")',
            'r = d.dataset("ds", partitioning="hive"); print(sorted(x[x.index("ds/"):] for x in r.files), r.count_rows(filter=d.field("k") == 1))',
            'from pyarrow import fs',
            'print(sorted((i.path, i.size) for i in fs.LocalFileSystem().get_file_info(fs.FileSelector("d", recursive=True)) if i.is_file))'),
        "maps": arrow(
            'import pyarrow as a, pyarrow.parquet as p, pyarrow.feather as f, os',
            't = a.table({"n": range(20000)}); f.write_feather(t, "f", compression="uncompressed"); p.write_table(t, "p")',
            'print(f.read_table("f", memory_map=True)["n"][12345], p.read_table("p", memory_map=True)["n"][99])',
            'm = a.create_memory_map("m", 8192); m.write(b"mapped" * 100); m.close(); m = a.memory_map("m", "r+"); m.seek(6); print(m.read(6)); m.seek(0); m.write(b"M"); m.close()',
            'print(open("m", "rb").read(8)); os.remove("p")')}),
    "safetensors": ([Module("safetensors.numpy", path=safetensors.PATH)], {
        "reads": weights(
            'import numpy as n',
            'from safetensors.numpy import load, save',
            'open("x", "wb").write(save({"w": n.arange(3000, dtype="f4"), "b": n.ones(7, "i8")})); print(sorted((k, v.sum()) for k, v in load(open("x", "rb").read()).items()))'),
        "writes": weights(
            'import numpy as n',
            'from safetensors.numpy import load_file, save_file',
            'for k in range(3): save_file({"w": n.full((50, 50), k)}, "x.safetensors", metadata={"step": str(k)})',
            'print(load_file("x.safetensors")["w"].sum())'),
        "maps": weights(
            'import numpy as n',
            'from safetensors import safe_open',
            'from safetensors.numpy import save_file',
            'save_file({"w": n.arange(30000, dtype="f4").reshape(100, 300), "b": n.ones(7, "i8")}, "x", metadata={"by": "test"})',
            'f = safe_open("x", "np").__enter__(); print(sorted(f.keys()), f.metadata(), f.get_slice("w")[3:5, :2], f.get_tensor("b"))')}),
    "PyTorch (DataLoader, save, load)": ([Module("torch")], {
        "reads": torch(
            *DATASET, MAIN, "    make()",
            "    for how in 'fork', 'spawn':",
            "        l = u.DataLoader(Numbers(), batch_size=4, num_workers=3, prefetch_factor=2, persistent_workers=True, multiprocessing_context=how)",
            "        for epoch in range(3 if how == 'fork' else 1): print(how, [b.tolist() for b in l])",
            "    print(torch.load('n/0/03.pt', map_location='cpu')[:3], torch.load(open('n/1/04.pt', 'rb'))[0])"),
        "writes": torch(
            "import os, torch",
            "m = torch.nn.Linear(50, 20); o = torch.optim.Adam(m.parameters())",
            "for e in range(3):",
            "    m(torch.ones(2, 50)).sum().backward(); o.step(); torch.save({'m': m.state_dict(), 'o': o.state_dict(), 'e': e}, 'c.tmp'); os.replace('c.tmp', 'c.pt')",
            "s = torch.load('c.pt'); m.load_state_dict(s['m']); o.load_state_dict(s['o']); print(s['e'], len(s['o']['state']))",
            "torch.save(torch.arange(9), 'old', _use_new_zipfile_serialization=False); print(torch.load('old'))",
            "torch.jit.save(torch.jit.script(m), 'jit'); print(torch.jit.load('jit')(torch.zeros(1, 50)).shape); [os.remove(n) for n in ('c.pt', 'old', 'jit')]"),
        "walks": torch(
            *DATASET,
            "class Stream(u.IterableDataset):",
            "    def __iter__(self):",
            "        w = u.get_worker_info(); names = sorted(os.path.join(t, f) for t, _, fs in os.walk('n') for f in fs)",
            "        return ((n, int(torch.load(n)[0])) for n in names[w.id::w.num_workers])",
            MAIN, "    make(); print(len(Numbers()), sorted((n[0], int(v)) for n, v in u.DataLoader(Stream(), num_workers=2)))"),
        "maps": torch(
            "import os, torch",
            "t = torch.from_file('shared', shared=True, size=1000, dtype=torch.int32); t.fill_(5); t[3] = 1; del t",
            "print(torch.from_file('shared', size=1000, dtype=torch.int32).sum())",
            "import numpy as n",
            "n.save('a.npy', n.arange(5000)); print(torch.from_numpy(n.load('a.npy', mmap_mode='r+'))[100:103])",
            "torch.save({'w': torch.arange(3000)}, 'w')",
            "more = {'mmap': True} if torch.__version__ >= '2.1' else {}",
            "print(torch.load('w', **more)['w'].sum()); os.remove('w')"),
        "spawns": torch(
            *DATASET,
            "class Started(Numbers):",
            "    def __getitem__(self, i): return os.popen(f'./s {i}').read()",
            MAIN, "    make(); print(list(u.DataLoader(Started(), batch_size=None, num_workers=2)))")}),
    "Hugging Face datasets, from local files": ([LEARNING], {
        "reads": learning(
            'import datasets as d, json',
            'open("j", "w").writelines(json.dumps({"i": i, "t": "x" * (i % 9)}) + "\\n" for i in range(2000))',
            'for kind, name in ("json", "j"), ("text", "data"):',
            '    t = d.load_dataset(kind, data_files=name, split="train"); print(t.num_rows, t[1234], t.column_names)',
            's = d.load_dataset("json", data_files="j", split="train", streaming=True); print(sum(r["i"] for r in s))'),
        "writes": learning(
            'import datasets as d',
            't = d.load_dataset("text", data_files="data", split="train"); m = t.map(lambda r: {"n": int(r["text"]) * 2}, num_proc=2); print(sum(m["n"]))',
            'm.to_parquet("p"); m.to_json("j"); m.to_csv("c"); m.save_to_disk("saved"); print(d.load_dataset("parquet", data_files="p", split="train")[77])'),
        "walks": learning(
            'import datasets as d, os',
            'for i in range(6): os.makedirs(f"w/{i % 2}", exist_ok=True); open(f"w/{i % 2}/{i}.txt", "w").write(f"text {i}\\n")',
            'print(sorted(d.load_dataset("text", data_files="w/**/*.txt", split="train")["text"]), sorted(d.load_dataset("text", data_dir="w", split="train")["text"]))'),
        "maps": learning(
            'import datasets as d',
            'd.Dataset.from_dict({"n": list(range(20000))}).save_to_disk("saved", num_shards=3); t = d.load_from_disk("saved"); print(t[15000], sum(t["n"]), len(t.cache_files))',
            's = t.shuffle(seed=1).select(range(50)).flatten_indices(); print(len(s), sum(t.filter(lambda r: r["n"] % 7 == 0)["n"]))')}),
    "tfrecord": ([TFRECORD, Module("torch")], {
        "reads": records(
            'import tfrecord as t, os',
            'from tfrecord.tools.tfrecord2idx import create_index',
            'w = t.TFRecordWriter("x.tfrecord")',
            'for i in range(300): w.write({"i": (i, "int"), "b": (b"bytes" * i, "byte"), "f": ([i / 2, 1.0], "float")})',
            'w.close(); create_index("x.tfrecord", "x.index"); what = {"i": "int", "b": "byte", "f": "float"}',
            'print(sum(int(r["i"][0]) + len(bytes(r["b"])) for r in t.tfrecord_loader("x.tfrecord", None, what)))',
            'print([int(r["i"][0]) for r in t.tfrecord_loader("x.tfrecord", "x.index", what, shard=(1, 3))][:5])',
            'from tfrecord.torch import TFRecordDataset',
            'from torch.utils.data import DataLoader',
            's = DataLoader(TFRecordDataset("x.tfrecord", "x.index", {"i": "int"}), batch_size=50, num_workers=2); print(sorted(int(b["i"].sum()) for b in s))'),
        "writes": records(
            'import tfrecord as t, gzip, shutil',
            'for n in range(3):',
            '    w = t.TFRecordWriter(f"{n}.tfrecord"); [w.write({"i": (i * n, "int")}) for i in range(1000)]; w.close()',
            'shutil.copyfileobj(open("2.tfrecord", "rb"), g := gzip.GzipFile("2.gz", "wb", mtime=0)); g.close()',
            'print(sum(int(r["i"][0]) for r in t.tfrecord_loader("2.gz", None, {"i": "int"}, compression_type="gzip")))')}),
    "Go with cgo, its C": (["go", "gcc"], {column: f"CELL={column} @go@" for column in ("reads", "writes", "walks", "maps", "spawns")}),
}
