function quote(s) { gsub(/[\\']/, "\\\\&", s); return s }
BEGIN {
  print "# fish completion of prelux; made from its --help."
  print "function __prelux_program\n    set -l words (commandline -opc) (commandline -ct)\n    for i in (seq (count $words))"
  print "        if contains -- $words[$i] run doctor\n            set -e words[1..$i]\n            break\n        end\n    end"
  print "    while set -q words[2]; and string match -q -- '-*' $words[1]\n        set -e words[1]\n    end"
  print "    complete --do-complete=\"$(string join -- ' ' $words)\"\nend"
  print "complete -c prelux -f"
  print "complete -c prelux -n __fish_use_subcommand -l config -r -F -d configuration"
  print "complete -c prelux -n __fish_use_subcommand -l json -d 'JSON to the standard output'"
  print "complete -c prelux -n __fish_use_subcommand -l help -d 'what there is'"
}
$1 == "C" {
  printf "complete -c prelux -n __fish_use_subcommand -a %s -d '%s'\n", $2, quote($4)
  in_it = "-n '__fish_seen_subcommand_from " $2 "'"
  split($3, words, " ")
  if (words[1] ~ /\|/) {
    gsub(/\|/, " ", words[1])
    printf "complete -c prelux -n '__fish_seen_subcommand_from %s; and not __fish_seen_subcommand_from %s' -a '%s'\n", $2, words[1], words[1]
    printf "complete -c prelux -n '__fish_seen_subcommand_from %s; and __fish_seen_subcommand_from %s' -F\n", $2, words[1]
  }
  else if ($3 ~ /CMD/)
    print "complete -c prelux " in_it " -a '(__prelux_program)'"
  else if ($3 != "")
    print "complete -c prelux " in_it " -F"
}
$1 == "O" {
  value = $5 == "" || $5 ~ /^\[/ ? "" : $5 == "FILE" ? " -r -F" : $5 == "BOOL" ? " -x -a 'true false'" : $5 == "LEVEL" ? " -x -a 'error warn info debug'" : " -x"
  printf "complete -c prelux -n '__fish_seen_subcommand_from %s'%s -l %s%s -d '%s'\n", $2, $3 == "" ? "" : " -" ($3 ~ /[0-9a-zA-Z]/ ? "s " $3 : ""), $4, value, quote($6)
}
