# `prelux NAME --help` as lines of the table.
NR == 1 { sub(/^Usage: prelux [a-z-]+ \[OPTION\]\.\.\. ?/, ""); words = $0 }
NR == 3 { sub(/\.$/, ""); print "C\t" name "\t" words "\t" $0 }
/^  (-[a-z0-9], )?--/ {
  letter = value = ""
  sub(/^  /, "")
  match($0, /   */)
  left = substr($0, 1, RSTART - 1)
  help = substr($0, RSTART + RLENGTH)
  if (left ~ /^-[^-]/) {
    letter = substr(left, 2, 1)
    left = substr(left, 5)
  }
  sub(/^--/, "", left)
  if (match(left, /[ [=]/)) {
    value = substr(left, RSTART)
    left = substr(left, 1, RSTART - 1)
    sub(/^ /, "", value)
  }
  print "O\t" name "\t" letter "\t" left "\t" value "\t" help
}
