"""Programs of docs/PROGRAMS.md beyond shells and runtimes: servers, pictures and films, arrays, Rust. test_runtimes.py runs them."""

from tests.servers.pythons import ARRAYS

RUST = r'''
use std::{env, fs, io::{self, BufRead, Read, Seek, SeekFrom, Write}, os::unix::fs::{symlink, FileExt, PermissionsExt}, path::Path, process::{Command, Stdio}, thread};
fn reads() -> io::Result<()> {
    let sum: u64 = io::BufReader::new(fs::File::open("data")?).lines().map(|line| line.unwrap().parse::<u64>().unwrap()).sum();
    let mut file = fs::File::open("data")?;
    let mut part = [0u8; 20];
    file.seek(SeekFrom::End(-50))?;
    file.read_exact(&mut part)?;
    println!("{sum} {part:?} {}", fs::read_to_string("d/link")?);
    file.read_exact_at(&mut part, 1000)?;
    println!("{part:?} {} {:?}", fs::metadata("data")?.len(), fs::metadata("none").map_err(|e| e.kind()).err());
    let all: Vec<_> = (0..4).map(|_| thread::spawn(|| fs::read("data").unwrap().len())).collect();
    for one in all { println!("{}", one.join().unwrap()); }
    Ok(())
}
fn writes() -> io::Result<()> {
    fs::write("f", "abc")?;
    fs::OpenOptions::new().append(true).open("f")?.write_all(b"d")?;
    let mut file = fs::OpenOptions::new().read(true).write(true).create_new(true).open("g")?;
    file.write_all(&[b'x'; 100000])?;
    file.write_all_at(b"YY", 10)?;
    file.set_len(50)?;
    file.sync_all()?;
    file.rewind()?;
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    let again = fs::OpenOptions::new().write(true).create_new(true).open("g");
    println!("{text} {:?} {}", again.map_err(|e| e.kind()).err(), fs::copy("data", "c")?);
    fs::rename("f", "h")?;
    fs::create_dir_all("m/n")?;
    fs::remove_dir_all("m")?;
    fs::set_permissions("h", fs::Permissions::from_mode(0o600))?;
    symlink("h", "l")?;
    println!("{:?} {}", fs::read_link("l")?, fs::read_to_string("l")?);
    fs::remove_file("l")
}
fn walk(folder: &Path, found: &mut Vec<String>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        found.push(format!("{} {} {}", entry.path().display(), kind.is_dir(), kind.is_symlink()));
        if kind.is_dir() { walk(&entry.path(), found)?; }
    }
    Ok(())
}
fn walks() -> io::Result<()> {
    let mut found = vec![];
    walk(Path::new("."), &mut found)?;
    found.sort();
    env::set_current_dir("d/a")?;
    println!("{found:?} {:?} {:?}", env::current_dir()?.file_name(), fs::canonicalize("../link")?.file_name());
    Ok(())
}
fn spawns() -> io::Result<()> {
    print!("{}", String::from_utf8_lossy(&Command::new("./s").arg("x").output()?.stdout));
    println!("{}", Command::new("../s").arg("y").current_dir("d").stdout(fs::File::create("out")?).status()?);
    let mut child = Command::new("cat").stdin(fs::File::open("d/a/1")?).stdout(Stdio::piped()).spawn()?;
    let mut text = String::new();
    child.stdout.take().unwrap().read_to_string(&mut text)?;
    child.wait()?;
    println!("{text}{}", fs::read_to_string("out")?);
    Ok(())
}
fn main() {
    match env::args().nth(1).unwrap().as_str() { "reads" => reads(), "writes" => writes(), "walks" => walks(), _ => spawns() }.unwrap();
}
'''
# One request over a socket that has a name: method, path, file=NAME to be sent, fields of the head. Prints the status, and length and sum of what came.
HTTP = '''
import http.client, socket, sys, time, zlib

class Client(http.client.HTTPConnection):
    def connect(self):
        end = time.monotonic() + 60
        while True:
            self.sock = socket.socket(socket.AF_UNIX)
            try:
                return self.sock.connect(sys.argv[1])
            except OSError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.02)

words = dict(word.split("=", 1) for word in sys.argv[4:])
body = open(words.pop("file"), "rb").read() if "file" in words else None
client = Client("localhost")
client.request(sys.argv[2], sys.argv[3], body, words)
answer = client.getresponse()
data = answer.read()
said = [sys.argv[2], sys.argv[3], answer.status, *((len(data), zlib.crc32(data)) if answer.status < 300 else ())]
sys.stdout.write(" ".join(map(str, said)) + "\\n")
'''
# As a server of one process, with its log of requests in the mapping and bodies that wait there, too.
NGINX = """T=$(mktemp -d); cat > $T/conf <<E
user root; daemon off; master_process off; error_log $T/log; pid $T/pid; events {}
http { sendfile on; tcp_nopush on; open_file_cache max=10; log_format f "\\$request \\$status"; access_log access f;
 client_body_temp_path $PWD/body; proxy_temp_path $T/p; fastcgi_temp_path $T/f; uwsgi_temp_path $T/u; scgi_temp_path $T/c;
 server { listen unix:$T/sock; root $PWD; location / { autoindex on; dav_methods PUT DELETE MKCOL MOVE COPY; } } }
E
nginx -c $T/conf -p $PWD -e $T/log & N=$!; ask() { python3 @http@ $T/sock "$@"; }
WORDS
kill -QUIT $N; wait $N; echo $?; grep -Ev "notice|\\[error\\].*No such file" $T/log; cat access; rm -r $T body"""
SFTP = """T=$(mktemp -d); sftp -q -D SERVER -b - > $T/said 2>&1 <<E
WORDS
E
sed "s:$PWD:HERE:g; s:$T:T:g" $T/said; END; rm -r $T"""
FFMPEG = "f() { ffmpeg -nostdin -v error -bitexact -threads 1 \"$@\"; }; "
SERVER = "/usr/lib/openssh/sftp-server"


def nginx(*words):
    return NGINX.replace("WORDS", "; ".join(words))


def sftp(words, end):
    return SFTP.replace("WORDS", words).replace("SERVER", SERVER).replace("END", end)


def by_python(*lines):
    script = "\n".join(lines)
    assert "'" not in script
    return f"{ARRAYS.program} -W ignore -c '{script}'"


MORE = {
    "nginx": (["nginx", "python3"], {
        "reads": nginx("ask GET /data; ask GET /data Range=bytes=1000-1999; ask GET /d/link; ask HEAD /data; ask GET /none; ask GET /data Range=bytes=9999999-",
                       "for i in 1 2 3 4; do ask GET /data & P=\"$P $!\"; done; wait $P"),
        "writes": nginx("ask PUT /put file=data; ask GET /put; ask MKCOL /col/; ask COPY /put Destination=/col/copy; ask MOVE /put Destination=/moved",
                        "ask PUT /moved file=s; ask DELETE /col/copy; cat moved; ls col"),
        "walks": nginx("ask GET /d/a/ | cut -d' ' -f 1-4; ask GET /d; ask GET /d/b/ | cut -d' ' -f 1-4; ask GET /none/")}),
    "sftp-server": (["sftp", SERVER], {
        "reads": sftp("get data $T/data\nget d/link $T/link\nget -p s $T/s", "cmp data $T/data && cmp d/link $T/link && $T/s x"),
        "writes": sftp("put data p\nput -p s q\nput data $PWD/long\nrename p r\nrename -l q t\nchmod 600 r\nmkdir new\nput -R d/a new\nln -s r sym\nls -1 sym\nrm sym\n-rm none\n-rmdir new",
                       "ls -l r t | cut -c1-10; ls -R new; cmp data r && ./t x"),
        "walks": sftp("ls -1 d\nls -1 d/*/*\ncd d/a\npwd\nls -1\nget -R ../b $T", "ls -R $T/b | tail -n 1")}),
    "Rust std": (["rustc"], {column: f"@rust@ {column}" for column in ("reads", "writes", "walks", "spawns")}),
    "ImageMagick": (["convert-im6.q16"], {
        "reads": "convert-im6.q16 -size 200x100 gradient:red-blue ppm:p; identify-im6.q16 -format '%w %h %#\\n' p; stream-im6.q16 -map r -extract 10x10+5+5 p - | cksum; "
                 "cp p q; compare-im6.q16 -metric AE p q null: 2>&1",
        "writes": "convert-im6.q16 -size 90x60 gradient:red-blue a.ppm; convert-im6.q16 a.ppm -rotate 90 b.ppm; mogrify-im6.q16 -flip a.ppm; "
                  "convert-im6.q16 a.ppm b.ppm c-%d.pgm; convert-im6.q16 c-0.pgm c-1.pgm +append d.pgm; cksum *.p?m; export MAGICK_TEMPORARY_PATH=$PWD; "
                  "convert-im6.q16 -limit memory 0 -limit map 0 a.ppm -resize 300% e.ppm; ls",
        "maps": "export MAGICK_TEMPORARY_PATH=$PWD; convert-im6.q16 -limit memory 0 -size 300x200 gradient:red-blue -resize 150% -blur 0x2 a.ppm; cksum a.ppm; ls"}),
    "ffmpeg": (["ffmpeg"], {
        "reads": FFMPEG + "f -f lavfi -i testsrc=d=2:s=64x48:r=10 -c:v mpeg4 f.avi; ffprobe -v error -show_entries stream=width,nb_frames f.avi; "
                 "f -ss 1 -i f.avi -f framemd5 -; f -i f.avi -i f.avi -filter_complex hstack -f md5 -",
        "writes": FFMPEG + "f -f lavfi -i testsrc=d=2:s=64x48:r=10 -c:v mpeg4 -movflags +faststart m.mp4; f -i m.mp4 -c copy n.avi; f -i n.avi -c:v png -f image2 i%03d.png; "
                  "f -i n.avi -c copy -f segment -segment_time 1 -segment_list l -reset_timestamps 1 s%d.avi; cat l; ls",
        "walks": FFMPEG + "f -f lavfi -i testsrc=d=1:s=32x32:r=5 i%d.png; f -pattern_type glob -i 'i*.png' -f md5 -; f -i i%d.png -f md5 -; "
                 "printf 'file %s\\n' i1.png i2.png > l; f -f concat -i l -f md5 -"}),
    "DuckDB": ([ARRAYS], {
        "reads": by_python(
            'import duckdb as d, os',
            'print(d.sql("select sum(column0), count(*) from read_csv(\\"data\\", header=false)").fetchall())',
            'd.sql("copy (select i from range(9999) t(i)) to \\"p.parquet\\"")',
            'print(d.sql("select sum(i), count(*) from read_parquet(\\"*.parquet\\")").fetchall()); os.remove("p.parquet")'),
        "writes": by_python(
            'import duckdb, os, shutil',
            'for n in range(3):',
            '    c = duckdb.connect("x.db")',
            '    c.execute("create table if not exists t(a int); insert into t select range from range(5000); delete from t where a % 7 = 0; checkpoint")',
            '    print(c.execute("select sum(a), count(*) from t").fetchall()); c.close()',
            'c = duckdb.connect()',
            # What takes longer than two seconds would print a bar.
            'c.execute("set enable_progress_bar=false; set threads=1; set memory_limit=\\"40MB\\"; set temp_directory=\\"spill\\"")',
            'print(c.execute("select sum(r), max(s) from (select range r, repeat(range::varchar, 9) s from range(1000000) order by s)").fetchall())',
            'print(os.path.isdir("spill")); c.close(); os.remove("x.db"); shutil.rmtree("spill", True)')}),
    # Groups on the way to a new one are made by hard links (docs/SEMANTICS.md): here each is made before what lies in it.
    "zarr": ([ARRAYS], {
        "reads": by_python(
            'import zarr, numpy as n',
            'z = zarr.open("z", mode="w", shape=(100, 100), chunks=(9, 9), dtype="i4"); z[:] = n.arange(10000).reshape(100, 100)',
            'r = zarr.open("z", mode="r"); print(r[:].sum(), r[5:9, 3], r[50:].max(), r.nchunks_initialized)'),
        "writes": by_python(
            'import zarr, numpy as n',
            'for f in 2, 3:',
            '    g = zarr.create_group(f"g{f}", zarr_format=f); s = g.create_group("sub"); a = s.create_array("x", shape=(50,), chunks=(7,), dtype="i4"); a[:] = 3',
            '    a[10:20] = 7; a.resize((60,)); a.append(n.ones(5, "i4")); a.attrs["k"] = f; print(f, a[:].sum(), zarr.open_group(f"g{f}", mode="r")["sub/x"].attrs["k"])',
            'zarr.save("saved", n.ones(40)); print(zarr.load("saved").sum())',
            'try: zarr.create_group("g3")',
            'except Exception as e: print(type(e).__name__)'),
        "walks": by_python(
            'import zarr',
            'g = zarr.create_group("g"); [g.create_group(k).create_array("x", shape=(3,), dtype="i4") for k in ("a", "b")]; zarr.consolidate_metadata("g")',
            'g = zarr.open_group("g", mode="r", use_consolidated=False); print(sorted(k for k, _ in g.members(max_depth=None)), sorted(g.group_keys()))',
            'del zarr.open_group("g", mode="a")["a"]; print(sorted(zarr.open_group("g", mode="r", use_consolidated=False).group_keys()))')}),
    "netCDF": ([ARRAYS], {
        "reads": by_python(
            'import netCDF4 as c, os',
            'd = c.Dataset("x.nc", "w"); d.createDimension("t", 50); v = d.createVariable("v", "f8", ("t",), zlib=True); v[:] = range(50); d.close()',
            'd = c.Dataset("x.nc"); print(d["v"][10:20].sum(), d.dimensions["t"].size); d.close()',
            'print(c.Dataset("m", memory=open("x.nc", "rb").read())["v"][-1]); os.remove("x.nc")'),
        "writes": by_python(
            'import netCDF4 as c, os',
            'for f in "NETCDF4", "NETCDF3_CLASSIC", "NETCDF3_64BIT_OFFSET":',
            '    d = c.Dataset(f, "w", format=f); d.createDimension("t", None); v = d.createVariable("v", "i4", ("t",)); v[:] = range(1000); d.sync(); d.close()',
            '    d = c.Dataset(f, "a"); d["v"][500:1500] = 7; d.title = "x" * 5000; d.close()',
            '    d = c.Dataset(f); print(f, d["v"][:].sum(), len(d.title)); d.close(); os.remove(f)')}),
}
