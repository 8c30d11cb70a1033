"""What few programs do, in a writable mapping as in a plain folder: each was wrong once (found by running unusual programs in both)."""

from tests.integration.write_rig import make_lake, same_as_plain
from tests.posix.test_hooks import program

NOTHING = "echo f > f; mkdir d; "
LINKED = """python3 - <<'E'
import os
open("f", "w").write("x")
for flags in os.O_PATH, os.O_RDONLY, os.O_RDWR:
    f = os.open("f", flags)
    link = f"/proc/self/fd/{f}"
    for path, mode in ((link, 0o640), (f"/proc/{os.getpid()}/fd/{f}", 0o600), (f"/dev/fd/{f}", 0o666)):
        os.chmod(path, mode)
        print(oct(os.stat(path).st_mode), oct(os.stat("f").st_mode), oct(os.fstat(f).st_mode))
    os.utime(link, (5, 7)); print(os.stat("f").st_mtime)
    os.chown(link, 0, 0); print(os.stat("f").st_uid)
    w = os.open(link, os.O_WRONLY | os.O_APPEND); os.write(w, b"y"); os.chmod(link, 0o644); os.close(w)
    print(open("f").read(), oct(os.stat("f").st_mode))
try: os.chmod(f"/proc/self/fd/{f + 100}", 0o600)
except OSError as e: print(e.strerror)
E"""
RENAMED = """mkdir -p a/b; echo x > a/x; cd a/b; pwd -P | sed 's:.*/a/:a/:'; cat ../x; {}; pwd -P | sed 's:.*/c/:c/:'; /bin/pwd | sed 's:.*/c/:c/:'; cat ../x; echo y >> ../x
echo z > ../z; echo n > n; ls . ..; cd ..; cat x z b/n; mv ../c ../e; ls; cd ..; ls e"""
ITSELF = """python3 -c 'import os; os.rename("../../a", "../../c"); print(os.getcwd()[-4:], sorted(os.listdir("..")), open("../x").read())'"""


def test_actions_of_a_spawn_that_fail(prelux):
    """What cannot be opened is said by posix_spawn: the program does not run with what it inherits in the place of that."""
    prog = program(prelux, "odd_uses")
    same_as_plain(make_lake(prelux, write="async"), f"mkdir t; cd t; {NOTHING}{prog} spawn f none d f/x none/x $PWD/none d/. /etc/none | sed s:$PWD:@:")


def test_flags_that_no_kernel_knows(prelux):
    prog = program(prelux, "odd_uses")
    same_as_plain(make_lake(prelux, write="async"), f"{NOTHING}{prog} flags f d")


def test_attributes_by_a_link_of_proc(prelux):
    """As systemd, cap-std and others set them, of a file that they hold by O_PATH. Its own name in the cache may be none of a mapping."""
    same_as_plain(make_lake(prelux, write="async"), LINKED)


def test_working_directory_below_a_folder_that_is_renamed(prelux):
    same_as_plain(make_lake(prelux, write="async"), RENAMED.replace("{}", "mv ../../a ../../c"))


def test_working_directory_below_a_folder_that_the_process_renames(prelux):
    same_as_plain(make_lake(prelux, write="async"), RENAMED.replace("{}", ITSELF))
