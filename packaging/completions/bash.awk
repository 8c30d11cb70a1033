$1 == "C" {
  commands = commands " " $2
  n = split($3, words, " ")
  if (words[1] ~ /\|/) {
    gsub(/\|/, " ", words[1])
    subs[$2] = words[1]
  }
  takes[$2] = $3 ~ /CMD/ ? "program" : $3 ~ /PATH|FILE|\.\.\./ ? "files" : ""
  order[++n_commands] = $2
}
$1 == "O" {
  options[$2] = options[$2] " --" $4 ($3 == "" ? "" : " -" $3)
  if ($5 != "" && $5 !~ /^\[/)
    note("--" $4, $5)
  if ($5 != "" && $3 != "")
    note("-" $3, $5)
}
END {
  print "# bash completion of prelux; made from its --help.\n_prelux()\n{"
  print "  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} command='' at=0 i words='' options='' takes='' first=''"
  print "  COMPREPLY=()"
  print "  for ((i = 1; i < COMP_CWORD; i++)); do"
  print "    case ${COMP_WORDS[i]} in"
  print "      --config) ((i++)) ;;"
  print "      -*) ;;"
  print "      *) command=${COMP_WORDS[i]} at=$i; break ;;"
  print "    esac"
  print "  done"
  print "  case $command in"
  for (i = 1; i <= n_commands; i++) {
    c = order[i]
    printf "    %s) options='%s' words='%s' takes='%s' ;;\n", c, substr(options[c], 2), subs[c], takes[c]
  }
  print "    *) options='--config --json --help' words='" substr(commands, 2) "' ;;"
  print "  esac"
  print "  for ((i = at + 1; at > 0 && i < COMP_CWORD; i++)); do"
  print "    case ${COMP_WORDS[i]} in"
  print "      -*) [[ ${COMP_WORDS[i]} != -- ]] || { ((i++)); [[ $takes == program ]] && first=$i; break; } ;;"
  print "      =) ;;"
  print "      *)"
  print "        case ${COMP_WORDS[i-1]} in"
  for (i = 1; i <= n_values; i++)
    pattern = pattern (i > 1 ? "|" : "") named[i]
  print "          " pattern "|=) ;;"
  print "          *) first=$i; break ;;"
  print "        esac ;;"
  print "    esac"
  print "  done"
  print "  if [[ $takes == program && $first ]]; then"
  print "    if declare -F _comp_command_offset >/dev/null; then _comp_command_offset \"$first\""
  print "    elif declare -F _command_offset >/dev/null; then _command_offset \"$first\""
  print "    elif ((COMP_CWORD == first)); then mapfile -t COMPREPLY < <(compgen -c -- \"$cur\")"
  print "    else compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- \"$cur\"); fi"
  print "    return"
  print "  fi"
  print "  case $prev in"
  for (i = 1; i <= n_values; i++) {
    o = named[i]
    if (values[o] == "FILE")
      print "    " o ") compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- \"$cur\"); return ;;"
    else
      print "    " o ") mapfile -t COMPREPLY < <(compgen -W '" choices(values[o]) "' -- \"$cur\"); return ;;"
  }
  print "  esac"
  print "  if [[ $cur == -* ]]; then"
  print "    mapfile -t COMPREPLY < <(compgen -W \"$options\" -- \"$cur\")"
  print "  elif [[ $words && ! $first ]]; then"
  print "    mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$cur\")"
  print "  elif [[ $takes == program ]]; then"
  print "    mapfile -t COMPREPLY < <(compgen -c -- \"$cur\")"
  print "  elif [[ $takes == files ]]; then"
  print "    compopt -o filenames"
  print "    mapfile -t COMPREPLY < <(compgen -f -- \"$cur\")"
  print "  fi"
  print "}\ncomplete -F _prelux prelux"
}
function choices(value) { return value == "BOOL" ? "true false" : value == "LEVEL" ? "error warn info debug" : "" }
function note(name, what)
{
  if (!(name in values))
    named[++n_values] = name
  values[name] = what
}
