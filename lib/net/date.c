/* Dates of HTTP (RFC 9110, 5.6.7): the fixed form, and the two old ones that servers may still send. Always GMT; no
 * locale. */
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "lib/net/net.h"

static const char months[][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
static const char days[][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};

static int month_of(const char *name)
{
  for (int i = 0; i < 12; i++)
    if (strcmp(months[i], name) == 0)
      return i;
  return -1;
}

static int days_in(int month, int year)
{
  static const int length[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
  bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
  return length[month] + (month == 1 && leap);
}

int64_t prelux_http_date(const char *s)
{
  struct tm tm = {0};
  char month[4] = "", zone[4] = "";
  int year = 0, end = 0;
  const char *comma = strchr(s, ',');
  if (comma &&
      sscanf(comma, ", %2d %3[A-Za-z] %4d %2d:%2d:%2d %3s%n", &tm.tm_mday, month, &year, &tm.tm_hour, &tm.tm_min,
             &tm.tm_sec, zone, &end) == 7 &&
      end && comma[end] == 0)
  {
    ;
  }
  else if (comma &&
           sscanf(comma, ", %2d-%3[A-Za-z]-%2d %2d:%2d:%2d %3s%n", &tm.tm_mday, month, &year, &tm.tm_hour, &tm.tm_min,
                  &tm.tm_sec, zone, &end) == 7 &&
           end && comma[end] == 0)
  {
    year += year < 70 ? 2000 : 1900;
  }
  else if (!comma &&
           sscanf(s, "%*3[A-Za-z] %3[A-Za-z] %2d %2d:%2d:%2d %4d%n", month, &tm.tm_mday, &tm.tm_hour, &tm.tm_min,
                  &tm.tm_sec, &year, &end) == 6 &&
           end && s[end] == 0)
  {
    strcpy(zone, "GMT");
  }
  else
  {
    return 0;
  }
  tm.tm_mon = month_of(month);
  if (strcmp(zone, "GMT") != 0 || tm.tm_mon < 0 || year < 1900 || year > 2261 || tm.tm_mday < 1 ||
      tm.tm_mday > days_in(tm.tm_mon, year) || tm.tm_hour < 0 || tm.tm_hour > 23 || tm.tm_min < 0 || tm.tm_min > 59 ||
      tm.tm_sec < 0 || tm.tm_sec > 60)
    return 0;
  tm.tm_year = year - 1900;
  return (int64_t)timegm(&tm) * 1000000000;
}

void prelux_http_date_format(char *out, size_t cap, int64_t ns)
{
  time_t t = (time_t)(ns / 1000000000);
  struct tm tm;
  if (!gmtime_r(&t, &tm))
  {
    snprintf(out, cap, "%s", "");
    return;
  }
  snprintf(out, cap, "%s, %02d %s %04d %02d:%02d:%02d GMT", days[tm.tm_wday], tm.tm_mday, months[tm.tm_mon],
           tm.tm_year + 1900, tm.tm_hour, tm.tm_min, tm.tm_sec);
}
