/* SPDX-License-Identifier: Apache-2.0 */
/* Implements progress.h. */
#include "cli/progress.h"

#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "cli/table.h"
#include "lib/base/clock.h"

#define FIRST_MS       500   /* nothing shorter is worth a bar */
#define REDRAW_MS      100   /* of the bar */
#define FIRST_LINE_MS  5000  /* without a terminal */
#define LINE_MS        10000 /* between lines */
#define BAR_MAX        40
#define DEFAULT_WIDTH  80
#define DEFAULT_LINES  24
#define WHAT_MAX_WIDTH 40

int64_t progress_now_ms(void)
{
    return (int64_t)(clock_ns() / 1000000);
}

void progress_begin(struct progress *p, const char *what, bool has_color)
{
    *p = (struct progress){.is_terminal = isatty(STDERR_FILENO),
                           .has_color = has_color,
                           .began_ms = progress_now_ms()};
    snprintf(p->what, sizeof(p->what), "%s", what);
}

void progress_set(struct progress *p, const char *what, uint64_t done, uint64_t total)
{
    if (what)
        snprintf(p->what, sizeof(p->what), "%s", what);
    p->done = MIN_OF(done, total ? total : done);
    p->total = total;
}

/* "45 %  1.2 GB of 2.6 GB", or the seconds so far. */
static void describe(const struct progress *p, int64_t age_ms, char *out, size_t size)
{
    char done[16], total[16];
    if (!p->total) {
        snprintf(out, size, "%lld s", (long long)(age_ms / 1000));
        return;
    }
    text_bytes(p->done, done);
    text_bytes(p->total, total);
    snprintf(out, size, "%3.0f %%  %s of %s", 100.0 * (double)p->done / (double)p->total, done,
             total);
}

int progress_columns(int fd)
{
    struct winsize w;
    if (ioctl(fd, TIOCGWINSZ, &w) < 0 || w.ws_col == 0)
        return DEFAULT_WIDTH;
    return w.ws_col;
}

int progress_lines(int fd)
{
    struct winsize w;
    if (ioctl(fd, TIOCGWINSZ, &w) < 0 || w.ws_row == 0)
        return DEFAULT_LINES;
    return w.ws_row;
}

void progress_bar(uint64_t done, uint64_t total, int width, char full, char end, char rest,
                  char *ret)
{
    int n = total ? (int)((double)width * (double)MIN_OF(done, total) / (double)total) : 0;
    ret[0] = '[';
    memset(ret + 1, full, (size_t)n);
    memset(ret + 1 + n, rest, (size_t)(width - n));
    if (n > 0 && n < width)
        ret[n] = end;
    ret[width + 1] = ']';
    ret[width + 2] = '\0';
}

/* The line, no longer than the terminal is wide: a wrapped one could not be erased. */
static void draw(const struct progress *p, int64_t age_ms)
{
    static const char *const wheel[] = {"|", "/", "-", "\\"};
    char text[80], bar[BAR_MAX + 3] = "";
    int width = progress_columns(STDERR_FILENO) - 1;
    describe(p, age_ms, text, sizeof(text));
    int what = MIN_OF((int)strlen(p->what), WHAT_MAX_WIDTH);
    int room = width - what - (int)strlen(text) - 4;
    if (p->total && room >= 10)
        progress_bar(p->done, p->total, MIN_OF(room, BAR_MAX), '#', '#', '.', bar);
    char line[512];
    snprintf(line, sizeof(line), "%.*s %s %s", what, p->what,
             bar[0] ? bar : wheel[(age_ms / REDRAW_MS) % 4], text);
    width = MAX_OF(width, 0); /* padded, so that nothing of a longer one stays */
    fprintf(stderr, "\r%s%-*.*s%s", p->has_color ? "\033[90m" : "", width, width, line,
            p->has_color ? "\033[0m" : "");
    fflush(stderr);
}

void progress_tick(struct progress *p)
{
    int64_t now = progress_now_ms(), age = now - p->began_ms;
    int64_t every = p->is_terminal ? REDRAW_MS : LINE_MS;
    if (age < (p->is_terminal ? FIRST_MS : FIRST_LINE_MS) ||
        (p->n_shown && now - p->shown_ms < every))
        return;
    p->shown_ms = now;
    p->n_shown++;
    if (p->is_terminal) {
        draw(p, age);
        p->is_shown = true;
        return;
    }
    char text[80];
    describe(p, age, text, sizeof(text));
    fprintf(stderr, "berth: %s: %s\n", p->what, text);
}

void progress_end(struct progress *p)
{
    if (p->is_shown) {
        fprintf(stderr, "\r%*s\r", MAX_OF(progress_columns(STDERR_FILENO) - 1, 0), "");
        fflush(stderr);
    }
    p->is_shown = false;
}
