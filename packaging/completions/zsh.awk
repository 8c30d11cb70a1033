function quote(s) { gsub(/'/, "'\\''", s); return s }
function plain(s) { gsub(/[\[\]:\\]/, "\\\\&", s); return quote(s) }
function action(value) { return value == "BOOL" ? "(true false)" : value == "LEVEL" ? "(error warn info debug)" : value == "FILE" ? "_files" : " " }
$1 == "C" {
  order[++n] = $2
  what[$2] = $4
  split($3, words, " ")
  if (words[1] ~ /\|/) {
    gsub(/\|/, " ", words[1])
    rest[$2] = " '1:what:(" words[1] ")' '*:path:_files'"
  }
  else if ($3 ~ /CMD/)
  {
    rest[$2] = " '(-)1:program: _command_names -e' '*::words: _normal'"
    before[$2] = "        at=${words[(i)--]}\n        if (( at < CURRENT )) && [[ -z ${(M)words[2,at-1]:#[^-]*} ]]; then\n" \
      "          shift at words\n          (( CURRENT -= at ))\n          _normal\n          return\n        fi\n"
  }
  else if ($3 != "")
    rest[$2] = " '*:path:_files'"
}
$1 == "O" {
  value = $5
  optional = sub(/^\[=/, "", value)
  sub(/\]$/, "", value)
  text = "[" plain($6) "]" (value == "" ? "" : (optional ? "::" : ":") tolower(value) ":" action(value))
  sign = value == "" ? "" : optional ? "=-" : "="
  if ($3 == "")
    opts[$2] = opts[$2] " \\\n        '--" $4 sign text "'"
  else
    opts[$2] = opts[$2] " \\\n        '(-" $3 " --" $4 ")'{-" $3 (value == "" ? "" : "+") ",--" $4 sign "}'" text "'"
}
END {
  print "#compdef prelux\n# zsh completion of prelux; made from its --help.\n_prelux()\n{\n  integer at\n  local context state state_descr line\n  typeset -A opt_args\n  local -a verbs=("
  for (i = 1; i <= n; i++)
    printf "    '%s:%s'\n", order[i], plain(what[order[i]])
  print "  )"
  print "  _arguments -C '--config=[configuration]:file:_files' '--json[JSON to the standard output]' '--help[what there is]' \\"
  print "    '1:command:->command' '*::words:->words'"
  print "  case $state in\n    command) _describe command verbs ;;\n    words)\n      case $words[1] in"
  for (i = 1; i <= n; i++)
    print "      " order[i] ")\n" before[order[i]] "        _arguments -s -S" opts[order[i]] " \\\n       " rest[order[i]] " ;;"
  print "      esac ;;\n  esac\n}\nif [ \"$funcstack[1]\" = _prelux ]; then _prelux \"$@\"; else compdef _prelux prelux; fi"
}
