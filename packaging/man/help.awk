# What --help says: prose is filled, "word   meaning" becomes an item, with the lines below it that are indented.
function flush()
{
  if (prose != "") {
    if (!fresh)
      print ".PP"
    fresh = 0
    fill(escape(prose))
  }
  if (item != "") {
    print ".TP"
    print ".B " literal(item)
    fill(escape(meaning))
    after_item = 1
    fresh = 0
  }
  prose = item = meaning = ""
}
/^Usage: prelux / {
  print ".SS " literal(substr($0, 8))
  fresh = 1
  next
}
/^usage: |^       preluxd / { next } # preluxd's: in the page's SYNOPSIS
/^$/ { flush(); next }
match($0, /^( *[^ ]+( [^ ]+)*)   *[^ ]/) && ($0 ~ /^  ?-|^  -/ || ($0 ~ /^[^ ]/ && match($0, /   *[^ ]/))) {
  flush()
  line = $0
  sub(/^ +/, "", line)
  match(line, /   */)
  item = substr(line, 1, RSTART - 1)
  meaning = substr(line, RSTART + RLENGTH)
  next
}
/^   / && item != "" { sub(/^ +/, ""); meaning = meaning " " $0; next }
{
  if (item != "")
    flush()
  prose = prose " " $0
}
END { flush() }
