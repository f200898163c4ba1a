/* SPDX-License-Identifier: Apache-2.0 */
/* What of a transfer is drawn, and where: implements the showing part of transfer.h. */
#include <string.h>
#include <unistd.h>

#include "cli/progress.h"
#include "cli/table.h"
#include "cli/artifact/transfer_impl.h"

#define REDRAW_MS     100
#define FIRST_MS      250   /* nothing shorter is worth a bar */
#define FIRST_LINE_MS 5000  /* without a terminal */
#define LINE_MS       10000 /* between lines */
#define BAR_MAX       40
#define ROWS_MAX      12
#define ID_CHARS      12
#define WIDTH_MAX     240

static FILE *out_of(const struct transfer *t)
{
    return t->style == TRANSFER_DOCKER ? stdout : stderr;
}

/* The twelve digits by which people know a layer, or a file's name, its end. */
static const char *short_id(const struct transfer_layer *l, char ret[ID_CHARS + 1])
{
    const char *s = strncmp(l->id, "sha256:", 7) == 0 ? l->id + 7 : l->id;
    size_t n = strlen(s);
    if (s == l->id && n > ID_CHARS)
        s += n - ID_CHARS;
    snprintf(ret, ID_CHARS + 1, "%-12.12s", s);
    return ret;
}

/* "3:07 left", "" while nobody can know. */
static void put_left(const struct transfer *t, char *ret, size_t size)
{
    uint64_t speed = transfer_speed(t), done = transfer_done(t);
    ret[0] = '\0';
    if (!speed || !t->total || done >= t->total)
        return;
    uint64_t s = (t->total - done + speed - 1) / speed;
    if (s >= 3600)
        snprintf(ret, size, "%llu:%02llu:%02llu left", (unsigned long long)s / 3600,
                 (unsigned long long)s / 60 % 60, (unsigned long long)s % 60);
    else
        snprintf(ret, size, "%llu:%02llu left", (unsigned long long)s / 60,
                 (unsigned long long)s % 60);
}

/* " 45 %  1.2 GB of 2.6 GB" */
static void put_share(uint64_t done, uint64_t total, char *ret, size_t size)
{
    char a[16], b[16];
    text_bytes(done, a);
    text_bytes(total, b);
    if (total) /* rounded down: 100 % is all of it */
        snprintf(ret, size, "%3u %%  %s of %s", (unsigned)(100.0 * (double)done / (double)total), a,
                 b);
    else
        snprintf(ret, size, "%s", a);
}

/* --- as berth shows it --- */

/* One line, cut to the terminal's width: a wrapped one could not be drawn over. */
static void put_row(const struct transfer *t, const char *text)
{
    FILE *f = out_of(t);
    int width = MIN_OF(progress_columns(fileno(f)) - 1, WIDTH_MAX);
    fprintf(f, "%s%.*s\033[K%s\n", t->has_color && t->style == TRANSFER_BERTH ? "\033[90m" : "",
            MAX_OF(width, 0), text, t->has_color && t->style == TRANSFER_BERTH ? "\033[0m" : "");
}

static void put_bar_row(const struct transfer *t, const char *name, uint64_t done, uint64_t total,
                        const char *more)
{
    char share[64], bar[BAR_MAX + 3] = "", row[WIDTH_MAX + 64];
    put_share(done, total, share, sizeof(share));
    /* as wide for the whole as for a layer, so that bars stand below each other */
    int room = progress_columns(fileno(out_of(t))) - 1 - ID_CHARS - 4 - 56;
    if (total && room >= 10)
        progress_bar(done, total, MIN_OF(room, BAR_MAX), '#', '#', '.', bar);
    snprintf(row, sizeof(row), "%-12s %s%s%s%s%s", name, bar, *bar ? " " : "", share,
             *more ? "  " : "", more);
    put_row(t, row);
}

/* The layers that are shown, in their order; where they do not all fit, those under way first. */
static unsigned draw_layers(const struct transfer *t, unsigned room)
{
    unsigned n = 0, hidden = 0;
    char id[ID_CHARS + 1];
    bool fits = t->n_layers <= room;
    for (int whole = 0; whole <= !fits; whole++) {
        for (unsigned i = 0; i < t->n_layers; i++) {
            const struct transfer_layer *l = &t->layers[i];
            if (!fits && (l->current >= l->size) != whole)
                continue;
            if (n < room) {
                put_bar_row(t, short_id(l, id), l->current, l->size, "");
                n++;
            } else {
                hidden++;
            }
        }
    }
    if (hidden) {
        char row[64];
        snprintf(row, sizeof(row), "and %u more", hidden);
        put_row(t, row);
        n++;
    }
    return n;
}

static void draw_berth(struct transfer *t)
{
    FILE *f = out_of(t);
    char rate[16], left[32], more[64] = "", row[520];
    if (t->n_rows)
        fprintf(f, "\033[%uA", t->n_rows);
    snprintf(row, sizeof(row), "%s%s%s", t->what, t->n_layers || !*t->note ? "" : ": ",
             t->n_layers ? "" : t->note);
    put_row(t, row);
    unsigned n = 1, room = (unsigned)MAX_OF(progress_lines(fileno(f)) - 4, 1);
    if (t->n_layers > 1)
        n += draw_layers(t, MIN_OF(room, ROWS_MAX));
    if (t->n_layers) {
        put_left(t, left, sizeof(left));
        text_bytes(transfer_speed(t), rate);
        if (transfer_speed(t))
            snprintf(more, sizeof(more), "%s/s%s%s", rate, *left ? "  " : "", left);
        put_bar_row(t, "all", transfer_done(t), t->total, more);
        n++;
    }
    fputs("\033[J", f);
    t->n_rows = n;
    fflush(f);
}

static void line_berth(const struct transfer *t)
{
    char share[64], rate[16], left[32];
    put_share(transfer_done(t), t->total, share, sizeof(share));
    put_left(t, left, sizeof(left));
    text_bytes(transfer_speed(t), rate);
    if (t->n_layers)
        fprintf(stderr, "berth: %s: %s, %s/s%s%s\n", t->what, share + strspn(share, " "), rate,
                *left ? ", " : "", left);
    else
        fprintf(stderr, "berth: %s%s%s\n", t->what, *t->note ? ": " : "", t->note);
}

/* --- as docker shows it --- */

static void docker_row(const struct transfer *t, const struct transfer_layer *l)
{
    char id[ID_CHARS + 1], a[24], b[24], row[WIDTH_MAX + 64], bar[BAR_MAX + 16];
    bool whole = l->size && l->current >= l->size;
    text_docker_bytes(l->current, a);
    text_docker_bytes(l->size, b);
    int room = progress_columns(fileno(stdout)) - 1 - ID_CHARS - 40;
    short_id(l, id);
    if (whole) {
        snprintf(row, sizeof(row), "%s: %s complete ", id, t->is_push ? "Push" : "Pull");
    } else if (l->current == 0) {
        snprintf(row, sizeof(row), "%s: Waiting ", id);
    } else {
        bar[0] = '\0';
        if (room >= 10)
            progress_bar(l->current, l->size, MIN_OF(room, BAR_MAX), '=', '>', ' ', bar);
        snprintf(row, sizeof(row), "%s: %s %s  %s/%s", id, t->is_push ? "Uploading" : "Downloading",
                 bar, a, b);
    }
    put_row(t, row);
}

static void draw_docker(struct transfer *t)
{
    if (t->n_rows)
        printf("\033[%uA", t->n_rows);
    for (unsigned i = 0; i < t->n_layers; i++)
        docker_row(t, &t->layers[i]);
    t->n_rows = t->n_layers;
    fflush(stdout);
}

static void line_docker(const struct transfer *t)
{
    char a[24], b[24];
    text_docker_bytes(transfer_done(t), a);
    text_docker_bytes(t->total, b);
    if (t->n_layers)
        printf("%s %s of %s\n", t->is_push ? "Uploaded" : "Downloaded", a, b);
    else if (*t->note)
        printf("%s\n", t->note);
    fflush(stdout);
}

/* --- both --- */

static bool is_due(const struct transfer *t, int64_t now)
{
    bool is_docker = t->style == TRANSFER_DOCKER;
    int64_t first = t->is_terminal ? (is_docker ? 0 : FIRST_MS) : is_docker ? 1000 : FIRST_LINE_MS;
    int64_t every = t->is_terminal ? REDRAW_MS : is_docker ? 1000 : LINE_MS;
    return now - t->began_ms >= first && (!t->n_shown || now - t->shown_ms >= every);
}

static void show_now(struct transfer *t)
{
    bool is_docker = t->style == TRANSFER_DOCKER;
    if (t->is_terminal)
        is_docker ? draw_docker(t) : draw_berth(t);
    else
        is_docker ? line_docker(t) : line_berth(t);
}

void transfer_show(struct transfer *t)
{
    int64_t now = progress_now_ms();
    if (t->style == TRANSFER_JSON || t->style == TRANSFER_QUIET || !is_due(t, now))
        return;
    t->shown_ms = now;
    t->n_shown++;
    show_now(t);
}

/* What is drawn is taken away, so that other text may stand there. */
static void wipe(struct transfer *t)
{
    FILE *f = out_of(t);
    if (t->n_rows && t->is_terminal)
        fprintf(f, "\033[%uA\033[J", t->n_rows);
    fflush(f);
    t->n_rows = 0;
}

void transfer_note(struct transfer *t, const char *sentence)
{
    bool is_docker = t->style == TRANSFER_DOCKER;
    if (t->style == TRANSFER_JSON)
        return;
    wipe(t);
    fprintf(stderr, "%s%s\n", is_docker ? "Warning: " : "berth: ", sentence);
}

void transfer_end(struct transfer *t, bool ok)
{
    if (t->style == TRANSFER_BERTH)
        wipe(t);
    if (t->style == TRANSFER_DOCKER && t->n_layers && (t->is_terminal ? t->n_shown > 0 : ok))
        show_now(t);
    t->n_rows = 0;
}
