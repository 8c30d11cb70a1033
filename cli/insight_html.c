/* A report as one page that needs nothing else: no script, no font, no server. The plots are SVG. */
#include <stdlib.h>
#include <string.h>

#include "cli/insight.h"

enum { WIDTH = 720, HEIGHT = 160, LEFT = 90, BAR = 22 };

static const char *const page_head =
    "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>prelux report</title>\n<style>\n"
    "body{font:14px/1.5 system-ui,sans-serif;max-width:60em;margin:2em auto;padding:0 1em;color:#222;background:#fff}\n"
    "h1{font-size:1.3em}h2{font-size:1.1em;margin-top:2em}code{background:#f2f2f2;padding:0 .3em;overflow-wrap:anywhere}\n"
    "table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.15em .6em;border-bottom:1px solid #ddd;vertical-align:top}\n"
    "td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}svg{max-width:100%;height:auto}\n"
    ".hit{fill:#2a9d6f}.ask{fill:#d9822b}.rest{fill:#5b7db1}.line{fill:none;stroke-width:1.5}text{font:12px system-ui,sans-serif;fill:#444}\n"
    "</style></head><body>\n";

static const cJSON *get(const cJSON *o, const char *key)
{
  return cJSON_GetObjectItemCaseSensitive(o, key);
}

static double num(const cJSON *o, const char *key)
{
  return prelux_json_num(o, key, 0);
}

static void text(FILE *f, const char *s)
{
  for (; s && *s; s++)
    if (*s == '<')
      fputs("&lt;", f);
    else if (*s == '>')
      fputs("&gt;", f);
    else if (*s == '&')
      fputs("&amp;", f);
    else if (*s == '"')
      fputs("&quot;", f);
    else if ((unsigned char)*s < 0x20 || *s == 0x7f)
      fprintf(f, "\\x%02x", (unsigned char)*s);
    else
      fputc(*s, f);
}

static void cell(FILE *f, const cJSON *o, const char *key, int digits)
{
  fprintf(f, "<td class=\"n\">%.*f</td>", digits, num(o, key));
}

static void word_cell(FILE *f, const char *s)
{
  fputs("<td>", f);
  text(f, s);
  fputs("</td>", f);
}

/* ---- plots */

/* One bar with parts; `most` fills the width. */
static void bar(FILE *f, int row, const char *name, double most, const double parts[3], const char *label)
{
  static const char *const classes[] = {"hit", "ask", "rest"};
  double x = LEFT;
  int y = row * BAR;
  fprintf(f, "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">%s</text>", LEFT - 8, y + 15, name);
  for (int i = 0; i < 3; i++)
  {
    double width = most > 0 ? parts[i] / most * (WIDTH - LEFT - 170) : 0;
    if (width > 0)
      fprintf(f, "<rect class=\"%s\" x=\"%.1f\" y=\"%d\" width=\"%.1f\" height=\"%d\"/>", classes[i], x, y + 3, width < 1 ? 1 : width, BAR - 6);
    x += width;
  }
  fprintf(f, "<text x=\"%.1f\" y=\"%d\">%s</text>\n", x + 6, y + 15, label);
}

static void plot_calls(FILE *f, const cJSON *calls)
{
  const cJSON *o;
  double most = 0;
  int rows = 0;
  cJSON_ArrayForEach(o, calls) if (strcmp(o->string, "all") != 0)
  {
    most = num(o, "calls") > most ? num(o, "calls") : most;
    rows++;
  }
  fprintf(f, "<h2>Calls</h2><p>Green: answered from shared memory and cache. Orange: the daemon was asked.</p>\n"
             "<svg id=\"calls\" viewBox=\"0 0 %d %d\" width=\"%d\" role=\"img\">\n", WIDTH, rows * BAR, WIDTH);
  rows = 0;
  cJSON_ArrayForEach(o, calls) if (strcmp(o->string, "all") != 0)
  {
    char label[96];
    const double parts[3] = {num(o, "hits"), num(o, "asked"), 0};
    snprintf(label, sizeof label, "%.0f (%.0f asked)", num(o, "calls"), num(o, "asked"));
    bar(f, rows++, o->string, most, parts, label);
  }
  fputs("</svg>\n", f);
}

static void plot_bytes(FILE *f, const cJSON *b)
{
  static const char *const rows[][2] = {{"cache", "opened_cached"}, {"asked", "opened_asked"}, {"workers", "fetched_worker"},
                                        {"under store", "fetched_under_store"}, {"remotes", "fetched_remote"}};
  const int n = (int)(sizeof rows / sizeof *rows);
  double most = 0;
  for (int i = 0; i < n; i++)
    most = num(b, rows[i][1]) > most ? num(b, rows[i][1]) : most;
  fprintf(f, "<h2>Bytes</h2><p>Of files that were opened: from the cache, after asking the daemon. Fetched meanwhile: from workers, the under store, "
             "other remotes.</p>\n<svg id=\"bytes\" viewBox=\"0 0 %d %d\" width=\"%d\" role=\"img\">\n", WIDTH, n * BAR, WIDTH);
  for (int i = 0; i < n; i++)
  {
    char label[32];
    double v = num(b, rows[i][1]);
    const double parts[3] = {i == 0 ? v : 0, i == 1 ? v : 0, i > 1 ? v : 0};
    bar(f, i, rows[i][0], most, parts, prelux_print_size(label, sizeof label, v));
  }
  fputs("</svg>\n", f);
}

/* Calls a second, and of them those that asked, between the looks. */
static void plot_time(FILE *f, const cJSON *points)
{
  const cJSON *p, *before = NULL;
  double most = 0, end = 0;
  cJSON_ArrayForEach(p, points)
  {
    double t = num(p, "at_s") - (before ? num(before, "at_s") : 0), n = num(p, "calls") - (before ? num(before, "calls") : 0);
    most = t > 0 && n / t > most ? n / t : most;
    end = num(p, "at_s");
    before = p;
  }
  if (most <= 0 || end <= 0)
    return;
  fprintf(f, "<h2>Over time</h2><p>Calls a second, at most %.0f; %.3f s.</p>\n<svg id=\"time\" viewBox=\"0 0 %d %d\" width=\"%d\" role=\"img\">\n",
          most, end, WIDTH, HEIGHT, WIDTH);
  static const char *const keys[] = {"calls", "asked"}, *const colours[] = {"#2a9d6f", "#d9822b"};
  for (int k = 0; k < 2; k++)
  {
    before = NULL;
    fprintf(f, "<polyline class=\"line\" stroke=\"%s\" points=\"", colours[k]);
    cJSON_ArrayForEach(p, points)
    {
      double from = before ? num(before, "at_s") : 0, t = num(p, "at_s") - from, n = num(p, keys[k]) - (before ? num(before, keys[k]) : 0);
      double y = HEIGHT - 4 - (t > 0 ? n / t / most : 0) * (HEIGHT - 8);
      fprintf(f, "%.1f,%.1f %.1f,%.1f ", from / end * WIDTH, y, num(p, "at_s") / end * WIDTH, y);
      before = p;
    }
    fputs("\"/>\n", f);
  }
  fputs("</svg>\n", f);
}

/* How long requests took, all families together, by powers of two. */
static void plot_waits(FILE *f, const cJSON *calls)
{
  double sums[PRELUX_REPORT_TIMES] = {0}, most = 0;
  int low = PRELUX_REPORT_TIMES, high = -1;
  const cJSON *o, *n;
  cJSON_ArrayForEach(o, calls)
  {
    int i = 0;
    cJSON_ArrayForEach(n, get(o, "waits_log2_ns"))
    {
      if (i < PRELUX_REPORT_TIMES)
        sums[i] += n->valuedouble;
      i++;
    }
  }
  for (int i = 0; i < PRELUX_REPORT_TIMES; i++)
    if (sums[i] > 0)
    {
      most = sums[i] > most ? sums[i] : most;
      low = i < low ? i : low;
      high = i;
    }
  if (high < 0)
    return;
  fprintf(f, "<h2>How long requests took</h2>\n<svg id=\"waits\" viewBox=\"0 0 %d %d\" width=\"%d\" role=\"img\">\n", WIDTH, (high - low + 1) * BAR, WIDTH);
  for (int i = low; i <= high; i++)
  {
    char name[32], label[32];
    double us = (double)(1ull << i) / 1000;
    const double parts[3] = {0, sums[i], 0};
    snprintf(name, sizeof name, us < 1000 ? "%.0f us" : "%.0f ms", us < 1000 ? us : us / 1000);
    snprintf(label, sizeof label, "%.0f", sums[i]);
    bar(f, i - low, name, most, parts, label);
  }
  fputs("</svg>\n", f);
}

/* ---- tables */

static void table_missed(FILE *f, const cJSON *list)
{
  const cJSON *o;
  fputs("<h2>Programs that the library did not get into</h2>\n", f);
  if (cJSON_GetArraySize(list) == 0)
  {
    fputs("<p>None that was seen.</p>\n", f);
    return;
  }
  fputs("<table id=\"missed\"><tr><th>program</th><th class=\"n\">processes</th><th>why</th></tr>\n", f);
  cJSON_ArrayForEach(o, list)
  {
    fputs("<tr>", f);
    word_cell(f, prelux_json_str(o, "program", ""));
    cell(f, o, "processes", 0);
    word_cell(f, prelux_json_str(o, "why", ""));
    fputs("</tr>\n", f);
  }
  fputs("</table>\n", f);
}

static void table_programs(FILE *f, const cJSON *list)
{
  const cJSON *o;
  fputs("<h2>Programs</h2>\n<table id=\"programs\"><tr><th>program</th><th>first word</th><th class=\"n\">starts</th><th class=\"n\">forks</th>"
        "<th class=\"n\">calls</th><th class=\"n\">asked</th><th class=\"n\">failed</th><th class=\"n\">waited s</th></tr>\n", f);
  cJSON_ArrayForEach(o, list)
  {
    fputs("<tr>", f);
    word_cell(f, prelux_json_str(o, "program", ""));
    word_cell(f, prelux_json_str(o, "word", ""));
    cell(f, o, "starts", 0);
    cell(f, o, "forks", 0);
    cell(f, o, "calls", 0);
    cell(f, o, "asked", 0);
    cell(f, o, "failed", 0);
    cell(f, o, "wait_s", 3);
    fputs("</tr>\n", f);
  }
  fputs("</table>\n", f);
}

static void table_slowest(FILE *f, const cJSON *list)
{
  const cJSON *o;
  fputs("<h2>Where programs waited</h2>\n<table id=\"slowest\"><tr><th>path</th><th>call</th><th class=\"n\">requests</th><th class=\"n\">waited s</th>"
        "<th class=\"n\">longest s</th></tr>\n", f);
  cJSON_ArrayForEach(o, list)
  {
    fputs("<tr>", f);
    word_cell(f, prelux_json_str(o, "path", ""));
    word_cell(f, prelux_json_str(o, "call", ""));
    cell(f, o, "requests", 0);
    cell(f, o, "wait_s", 3);
    cell(f, o, "longest_s", 3);
    fputs("</tr>\n", f);
  }
  fputs("</table>\n", f);
}

void prelux_insight_html(FILE *f, const cJSON *sum)
{
  const cJSON *o, *reached = get(sum, "reached");
  fputs(page_head, f);
  fputs("<h1>prelux report</h1>\n<p><code>", f);
  cJSON_ArrayForEach(o, get(sum, "command"))
  {
    text(f, cJSON_GetStringValue(o));
    fputs(o->next ? " " : "", f);
  }
  fprintf(f, "</code></p>\n<p>%s: status %.0f after %.3f s. %.0f programs were started with the library in them, %.0f supervised (--deep); %.0f forked processes "
          "used mappings.</p>\n",
          prelux_json_str(sum, "began", ""), num(sum, "status"), num(sum, "seconds"), num(reached, "starts"), num(reached, "supervised"), num(reached, "forks"));
  table_missed(f, get(sum, "not_reached"));
  plot_calls(f, get(sum, "calls"));
  plot_bytes(f, get(sum, "bytes"));
  plot_time(f, get(sum, "timeline"));
  plot_waits(f, get(sum, "calls"));
  table_slowest(f, get(sum, "slowest"));
  table_programs(f, get(sum, "programs"));
  fputs("<h2>What is not seen</h2><ul>\n", f);
  cJSON_ArrayForEach(o, get(sum, "not_seen"))
  {
    fputs("<li>", f);
    text(f, cJSON_GetStringValue(o));
    fputs("</li>\n", f);
  }
  fputs("</ul></body></html>\n", f);
}
