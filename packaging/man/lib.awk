# Text as roff.
function escape(s)
{
  gsub(/\\/, "\\e", s)
  gsub(/-/, "\\-", s)
  gsub(/'/, "\\(aq", s)
  gsub(/`/, "\\(ga", s)
  gsub(/\^/, "\\(ha", s)
  gsub(/~/, "\\(ti", s)
  return s
}
function literal(s)
{
  s = escape(s)
  return s ~ /^[.']/ ? "\\&" s : s
}
# A paragraph may not have lines that are too long for an editor, and none that begins as a request does.
function fill(s,   n, i, words, line)
{
  n = split(s, words, / +/)
  line = ""
  for (i = 1; i <= n; i++) {
    if (words[i] == "")
      continue
    if (length(line) + length(words[i]) > 78) {
      print line
      line = ""
    }
    line = line == "" ? (words[i] ~ /^[.']/ ? "\\&" words[i] : words[i]) : line " " words[i]
  }
  if (line != "")
    print line
}
