/* Whose word counts: files and sockets of a runtime folder that somebody else may have made. Shim-safe: raw system calls. */
#ifndef PRELUX_BASE_TRUST_H
#define PRELUX_BASE_TRUST_H

/* Another user than we are has made what lies in that folder, or listens there (`preluxd --node`): may it be believed? Only where nobody but root, he and
 * we can have put the folder: each component is a folder (no link) of one of us that no others can write to, and the last one is his. 0 or -EACCES. */
int prelux_trusted(const char *folder, unsigned uid);
/* The same of anybody: root and we ourselves are believed wherever it is. 0 or -EACCES. */
int prelux_believed(const char *folder, unsigned uid);

#endif
