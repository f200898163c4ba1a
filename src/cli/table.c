/* SPDX-License-Identifier: Apache-2.0 */
/* Implements table.h. */
#include "cli/table.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "lib/sys/config.h"

#define CELLS_MAX_BYTES (64u << 20)
#define FACT_COLUMNS    14
#define BOLD            "\033[1m"
#define PLAIN           "\033[0m"

void table_init(struct table *t, const char *const *titles, unsigned n_columns)
{
    BUG_ON(n_columns > TABLE_MAX_COLUMNS);
    *t = (struct table){.n_columns = n_columns, .titles = titles};
    buf_init(&t->cells, CELLS_MAX_BYTES);
}

void table_release(struct table *t)
{
    buf_release(&t->cells);
}

void table_add(struct table *t, const char *cell)
{
    if (buf_append(&t->cells, cell, strlen(cell) + 1) == 0)
        t->n_cells++;
}

void table_add_number(struct table *t, uint64_t n)
{
    char s[32];
    snprintf(s, sizeof(s), "%llu", (unsigned long long)n);
    table_add(t, s);
}

void table_add_bytes(struct table *t, uint64_t n)
{
    char s[16];
    text_bytes(n, s);
    table_add(t, s);
}

void table_add_ago(struct table *t, uint64_t unix_s)
{
    char s[32];
    text_ago((int64_t)unix_s, s);
    table_add(t, s);
}

static bool is_colored(void)
{
    static int known = -1;
    if (known < 0)
        known = isatty(STDOUT_FILENO) && config_wants_color();
    return known;
}

/* Bytes that a terminal obeys, C1 controls in UTF-8 included, become '?'. */
static void put_safe(const char *s)
{
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s, next = (unsigned char)s[1];
        if (c == 0xC2 && next >= 0x80 && next < 0xA0) {
            putchar('?');
            s++;
        } else {
            putchar(c < 0x20 || c == 0x7F ? '?' : c);
        }
    }
}

/* Columns of text: its characters, not its bytes. */
static int width_of(const char *s)
{
    int n = 0;
    for (; *s; s++)
        n += ((unsigned char)*s & 0xC0) != 0x80;
    return n;
}

static void print_row(const struct table *t, const char *const *cells, const int *widths)
{
    for (unsigned c = 0; c < t->n_columns; c++) {
        put_safe(cells[c]);
        if (c + 1 < t->n_columns || t->is_docker)
            printf("%*s", widths[c] - width_of(cells[c]) + 2, "");
    }
    putchar('\n');
}

void table_print(const struct table *t)
{
    int widths[TABLE_MAX_COLUMNS];
    const char *row[TABLE_MAX_COLUMNS];
    for (unsigned c = 0; c < t->n_columns; c++)
        widths[c] = width_of(t->titles[c]);
    const char *s = buf_str(&t->cells);
    for (unsigned i = 0; i < t->n_cells; i++, s += strlen(s) + 1)
        widths[i % t->n_columns] = MAX_OF(widths[i % t->n_columns], width_of(s));
    bool is_bold = is_colored() && !t->is_docker;
    fputs(is_bold ? BOLD : "", stdout);
    print_row(t, t->titles, widths);
    fputs(is_bold ? PLAIN : "", stdout);
    s = buf_str(&t->cells);
    for (unsigned i = 0; i < t->n_cells; i++, s += strlen(s) + 1) {
        row[i % t->n_columns] = s;
        if (i % t->n_columns == t->n_columns - 1)
            print_row(t, row, widths);
    }
}

/* n scaled to under 1000 by steps of 1000, with three digits. */
static void scaled(uint64_t n, const char *const *units, unsigned n_units, char ret[16])
{
    double v = (double)n;
    unsigned u = 0;
    while (v >= 999.5 && u + 1 < n_units) {
        v /= 1000;
        u++;
    }
    snprintf(ret, 16, "%.*f%s", u == 0 || v >= 99.95 ? 0 : v >= 9.995 ? 1 : 2, v, units[u]);
}

void text_bytes(uint64_t n, char ret[16])
{
    static const char *const units[] = {" B", " kB", " MB", " GB", " TB", " PB"};
    scaled(n, units, ARRAY_LEN(units), ret);
}

void text_docker_bytes(uint64_t n, char ret[24])
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB", "PB"};
    double v = (double)n;
    unsigned u = 0;
    while (v >= 1000 && u + 1 < ARRAY_LEN(units)) {
        v /= 1000;
        u++;
    }
    snprintf(ret, 24, "%.4g%s", v, units[u]);
}

void text_count(uint64_t n, char ret[16])
{
    static const char *const units[] = {"", "K", "M", "B", "T"};
    scaled(n, units, ARRAY_LEN(units), ret);
}

const char *text_span(uint64_t seconds, char ret[32])
{
    static const struct {
        uint64_t seconds;
        const char *name;
    } units[] = {{86400 * 365, "year"}, {86400 * 30, "month"}, {86400 * 7, "week"}, {86400, "day"},
                 {3600, "hour"},        {60, "minute"},        {1, "second"}};
    size_t i = 0;
    while (i + 1 < ARRAY_LEN(units) && seconds < units[i].seconds)
        i++;
    uint64_t n = seconds / units[i].seconds;
    snprintf(ret, 32, "%llu %s%s", (unsigned long long)n, units[i].name, n == 1 ? "" : "s");
    return ret;
}

void text_ago(int64_t unix_s, char ret[32])
{
    ret[0] = '\0';
    if (unix_s <= 0)
        return;
    int64_t age = (int64_t)time(NULL) - unix_s;
    size_t n = strlen(text_span((uint64_t)MAX_OF(age, 0), ret));
    snprintf(ret + n, 32 - n, " ago");
}

const char *text_until(uint64_t seconds, char ret[48])
{
    char span[32];
    if (seconds == 0)
        snprintf(ret, 48, "Expiring");
    else
        snprintf(ret, 48, "%s from now", text_span(seconds, span));
    return ret;
}

void heading_print(const char *text)
{
    printf("\n%s", is_colored() ? BOLD : "");
    put_safe(text);
    fputs(is_colored() ? PLAIN "\n" : "\n", stdout);
}

void fact_print(const char *name, const char *format, ...)
{
    char text[4096];
    va_list ap;
    va_start(ap, format);
    vsnprintf(text, sizeof(text), format, ap);
    va_end(ap);
    put_safe(name);
    printf("%*s", MAX_OF(FACT_COLUMNS - width_of(name), 0) + 1, "");
    put_safe(text);
    putchar('\n');
}

static int to_stdout(const char *s, size_t n, void *ctx)
{
    (void)ctx;
    return fwrite(s, 1, n, stdout) == n ? 0 : -1;
}

void cli_print_json(const json_t *j)
{
    json_dump_callback(j, to_stdout, NULL, JSON_INDENT(2));
    putchar('\n');
}
