#include "lib/store/sql.h"

#include <errno.h>
#include <sqlite3.h>

int prelux_sql_error(int rc)
{
  switch (rc & 0xff)
  {
  case SQLITE_OK:
  case SQLITE_DONE:
  case SQLITE_ROW:
    return 0;
  case SQLITE_FULL:
    return -ENOSPC;
  case SQLITE_NOMEM:
    return -ENOMEM;
  case SQLITE_BUSY:
    return -EBUSY;
  case SQLITE_CORRUPT:
  case SQLITE_NOTADB:
    return -EUCLEAN;
  default:
    return -EIO;
  }
}
