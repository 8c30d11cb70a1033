# docs/*.md, as far as they use it: headings, paragraphs, lists, tables (a row is an item: its first cell, then the others behind their
# headings), code. With sub_only: headings of all levels are .SS.
BEGIN { fresh = 1 }
function inline(s)
{
  s = escape(s)
  while (match(s, /\[[^]]*\]\([^)]*\)/)) {
    text = substr(s, RSTART, RLENGTH)
    sub(/\]\(.*$/, "", text)
    s = substr(s, 1, RSTART - 1) substr(text, 2) substr(s, RSTART + RLENGTH)
  }
  gsub(/\\\(ga\\\(ga/, "", s)
  while (match(s, /\\\(ga/)) {
    s = substr(s, 1, RSTART - 1) "\\fB" substr(s, RSTART + RLENGTH)
    if (!match(s, /\\\(ga/))
      break
    s = substr(s, 1, RSTART - 1) "\\fR" substr(s, RSTART + RLENGTH)
  }
  while (match(s, /\*\*[^*]+\*\*/))
    s = substr(s, 1, RSTART - 1) "\\fB" substr(s, RSTART + 2, RLENGTH - 4) "\\fR" substr(s, RSTART + RLENGTH)
  while (match(s, /(^|[ (])\*[^* ][^*]*\*/)) {
    lead = substr(s, RSTART, 1) == "*" ? "" : substr(s, RSTART, 1)
    body = substr(s, RSTART + length(lead) + 1, RLENGTH - length(lead) - 2)
    s = substr(s, 1, RSTART - 1) lead "\\fI" body "\\fR" substr(s, RSTART + RLENGTH)
  }
  return s
}
function flush()
{
  if (para != "") {
    if (!fresh)
      print ".PP"
    fill(inline(para))
    fresh = 0
  }
  para = ""
}
function cells(line, out,   n, i)
{
  gsub(/\\\|/, "\001", line)
  sub(/^\| */, "", line)
  sub(/ *\|$/, "", line)
  n = split(line, out, / *\| */)
  for (i = 1; i <= n; i++)
    gsub(/\001/, "|", out[i])
  return n
}
/^```/ {
  flush()
  code = !code
  print code ? ".PP\n.EX" : ".EE"
  fresh = 0
  next
}
code { print literal($0); next }
/^#/ {
  flush()
  level = sub_only ? ".SS " : $0 ~ /^## / ? ".SH " : ".SS "
  sub(/^#+ /, "")
  print level inline(level == ".SH " ? toupper($0) : $0)
  fresh = 1
  table = 0
  next
}
/^\|[-| ]+\|$/ { table = 2; next }
/^\|/ && !table { flush(); n_heads = cells($0, heads); table = 1; next }
/^\|/ {
  n = cells($0, row)
  print ".TP"
  print "\\fB" plain(row[1]) "\\fR"
  text = ""
  for (k = 2; k <= n; k++)
    if (row[i = sub_only ? n + 2 - k : k] != "") # of a key the meaning, which is the last column, comes first
      text = text (text == "" ? "" : (text ~ /[.:;]$/ ? " " : ". ")) (i == n && sub_only || heads[i] == "" || heads[i] == "below a prefix" ? "" : "*" heads[i] "*: ") row[i]
  fill(inline(text == "" ? "\\ " : text))
  fresh = 0
  next
}
function plain(s) { gsub(/[`*]/, "", s); return escape(s) }
/^$/ { flush(); table = 0; next }
/^- |^[0-9]+\. / {
  flush()
  print ".IP " ($0 ~ /^-/ ? "\\(bu 2" : substr($1, 1) " 4")
  sub(/^(-|[0-9]+\.) /, "")
  para = $0
  fresh = 1
  next
}
{ para = para " " $0 }
END { flush() }
