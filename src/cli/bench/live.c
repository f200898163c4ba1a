/* SPDX-License-Identifier: Apache-2.0 */
/* Implements live.h. */
#include "cli/bench/live.h"

#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define LOOK_MS   250 /* from one rate to the next */
#define BAR_CELLS 20
#define WIDTH     80

void live_begin(struct live *l, bool is_wanted, const char *name, const struct load *load)
{
    *l = (struct live){.is_on = is_wanted && isatty(STDERR_FILENO),
                       .name = name,
                       .concurrency = load->concurrency,
                       .n_prompts = load->n_prompts,
                       .duration_s = load->duration_s,
                       .seen_ms = load_now_ms()};
}

static void add_rate(struct live *l, double rate)
{
    if (l->n_rates == LIVE_HISTORY) {
        memmove(l->rates, l->rates + 1, sizeof(l->rates) - sizeof(l->rates[0]));
        l->n_rates--;
    }
    l->rates[l->n_rates++] = rate;
}

/* The rates as blocks of eight heights. */
static void draw_rates(const struct live *l, char *out, size_t size)
{
    static const char *const blocks[] = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
    double most = 1e-9;
    size_t at = 0;
    for (unsigned i = 0; i < l->n_rates; i++)
        most = MAX_OF(most, l->rates[i]);
    for (unsigned i = 0; i < LIVE_HISTORY; i++) {
        const char *s = " ";
        if (i < l->n_rates)
            s = blocks[(unsigned)(l->rates[i] / most * 7.99)];
        int n = snprintf(out + at, size - at, "%s", s);
        at += (size_t)n;
    }
}

static double share_done(const struct live *l, const struct load_progress *p, double now_ms)
{
    double of = l->n_prompts ? (double)(p->n_done + p->n_failed) / l->n_prompts
                             : (now_ms - p->begun_ms) / 1e3 / (double)MAX_OF(l->duration_s, 1u);
    return MIN_OF(of, 1.0);
}

static unsigned terminal_width(void)
{
    struct winsize w;
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col ? w.ws_col : WIDTH;
}

/* The longest form that the terminal's width takes: a wrapped line could not be erased. */
static void draw(const struct live *l, const struct load_progress *p, double now_ms)
{
    char bar[BAR_CELLS + 1], curve[LIVE_HISTORY * 4 + 1], head[80], count[64], tail[64];
    unsigned full = (unsigned)(share_done(l, p, now_ms) * BAR_CELLS + 0.5);
    memset(bar, '#', full);
    memset(bar + full, '.', BAR_CELLS - full);
    bar[BAR_CELLS] = '\0';
    draw_rates(l, curve, sizeof(curve));
    snprintf(head, sizeof(head), "%.40s%s%u at once", l->name ? l->name : "", l->name ? ", " : "",
             l->concurrency);
    snprintf(count, sizeof(count), l->n_prompts ? "%u of %u" : "%u done",
             (unsigned)(p->n_done + p->n_failed), l->n_prompts);
    snprintf(tail, sizeof(tail), "%.0f tokens/s, %u under way",
             l->n_rates ? l->rates[l->n_rates - 1] : 0, (unsigned)p->n_active);
    size_t width = terminal_width() - 1;
    size_t words = strlen(head) + strlen(count) + strlen(tail) + 6;
    bool has_bar = words + BAR_CELLS + 3 <= width;
    bool has_curve = words + BAR_CELLS + 3 + LIVE_HISTORY + 2 <= width;
    fprintf(stderr, "\r%.*s  %s%s%s%s%s%s%s", (int)width, head, has_bar ? "[" : "",
            has_bar ? bar : "", has_bar ? "]  " : "", words <= width ? count : "",
            has_curve ? "  " : "", has_curve ? curve : "", words <= width ? "  " : "");
    fprintf(stderr, "%s", words <= width ? tail : "");
    if (p->n_failed && words + 12 <= width)
        fprintf(stderr, ", %u failed", (unsigned)p->n_failed);
    fputs("\033[K", stderr);
    fflush(stderr);
}

void live_tick(void *ctx, const struct load_progress *p)
{
    struct live *l = ctx;
    double now = load_now_ms();
    if (!l->is_on || now - l->seen_ms < LOOK_MS)
        return;
    uint64_t n = p->n_pieces;
    add_rate(l, (double)(n - l->seen) / (now - l->seen_ms) * 1e3);
    l->seen = n;
    l->seen_ms = now;
    draw(l, p, now);
}

void live_end(struct live *l)
{
    if (l->is_on)
        fprintf(stderr, "\r\033[K");
}
