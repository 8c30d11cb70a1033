/* What SQLite says, as -errno. */
#ifndef PRELUX_STORE_SQL_H
#define PRELUX_STORE_SQL_H

/* 0 for OK, ROW and DONE; -ENOSPC, -ENOMEM, -EBUSY; -EUCLEAN: the file is damaged or no database; -EIO: all else. rc may be an
 * extended code. */
int prelux_sql_error(int rc);

#endif
