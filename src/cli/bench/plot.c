/* SPDX-License-Identifier: Apache-2.0 */
/* A run as a picture: tokens a second in all against the time to the first token (left) and the
 * time of each further one (right), a point for each level, a line for each server.  SVG by hand;
 * needs no script, no font of its own, no network. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cli/artifact/out_file.h"
#include "cli/bench/bench.h"

enum { WIDTH = 960, HEIGHT = 484, TOP = 110, BOTTOM = 70, PANEL = 370, LEFT0 = 80, LEFT1 = 560 };
#define MAX_SVG_BYTES (4u << 20)

static const char *const colors[BENCH_TARGETS] = {"#1f6feb", "#d4730b"};

/* One axis: values from 0 to max over `length` pixels. */
struct axis {
    double max, step;
    int length;
};

/* Steps of 1, 2 or 5 times a power of ten, at most 6 of them. */
static struct axis axis_for(double most, int length)
{
    struct axis a = {.length = length};
    most = most > 0 ? most * 1.08 : 1;
    double unit = pow(10, floor(log10(most / 5)));
    static const double steps[] = {1, 2, 2.5, 5, 10};
    for (size_t i = 0; i < ARRAY_LEN(steps) && (a.step == 0 || most / a.step > 6); i++)
        a.step = unit * steps[i];
    a.max = most;
    return a;
}

static double at(const struct axis *a, double v)
{
    return v / a->max * a->length;
}

struct panel {
    const char *title;
    int left;
    struct bench_times (*times)(const struct bench_stats *s);
    struct axis x, y;
};

static struct bench_times get_ttft(const struct bench_stats *s)
{
    return s->ttft;
}

static struct bench_times get_tpot(const struct bench_stats *s)
{
    return s->tpot;
}

static double rate_of(const struct bench_stats *s)
{
    return (double)s->n_tokens / s->duration_s;
}

/* Never with an exponent. */
static void tick_text(double v, char ret[32])
{
    snprintf(ret, 32, v >= 1000 ? "%.0f" : "%.4g", v);
}

/* Milliseconds up to 10 s, then seconds. */
static void time_text(double ms, double most, char ret[32])
{
    tick_text(most >= 10000 ? ms / 1000 : ms, ret);
}

static void put_text(struct buf *out, const char *text)
{
    for (; *text; text++) {
        if (*text == '<' || *text == '&' || *text == '>')
            buf_printf(out, "&#%d;", *text);
        else if ((unsigned char)*text >= 0x20)
            buf_append_char(out, *text);
    }
}

static void put_axes(struct buf *out, const struct panel *p)
{
    int bottom = HEIGHT - BOTTOM;
    for (double v = 0; v <= p->y.max; v += p->y.step) {
        double y = bottom - at(&p->y, v);
        char text[32];
        time_text(v, p->y.max, text);
        buf_printf(out, "<line class=\"grid\" x1=\"%d\" y1=\"%.1f\" x2=\"%d\" y2=\"%.1f\"/>",
                   p->left, y, p->left + PANEL, y);
        buf_printf(out, "<text class=\"tick\" x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%s</text>\n",
                   p->left - 8, y + 4, text);
    }
    for (double v = 0; v <= p->x.max; v += p->x.step) {
        char text[32];
        tick_text(v, text);
        buf_printf(out,
                   "<text class=\"tick\" x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%s</text>\n",
                   p->left + at(&p->x, v), bottom + 20, text);
    }
    buf_printf(out, "<line class=\"axis\" x1=\"%d\" y1=\"%d\" x2=\"%d\" y2=\"%d\"/>\n", p->left,
               bottom, p->left + PANEL, bottom);
    buf_printf(out,
               "<text class=\"label\" x=\"%d\" y=\"%d\" text-anchor=\"middle\">"
               "tokens of answers a second, all together</text>\n",
               p->left + PANEL / 2, bottom + 46);
    buf_printf(out, "<text class=\"title\" x=\"%d\" y=\"%d\">%s, %s</text>\n", p->left - 40,
               TOP - 18, p->title, p->y.max >= 10000 ? "s" : "ms");
}

/* A line through the medians; from each point up to where 99 of 100 requests lie below. */
static void put_curve(struct buf *out, const struct bench_run *b, const struct panel *p,
                      unsigned target)
{
    int bottom = HEIGHT - BOTTOM;
    for (unsigned i = 0; i < b->n_levels; i++) {
        const struct bench_stats *s = &b->levels[i].cells[target].stats;
        double x = p->left + at(&p->x, rate_of(s)), top = bottom - at(&p->y, p->times(s).p99);
        buf_printf(out,
                   "<path fill=\"none\" stroke=\"%s\" stroke-opacity=\"0.45\" "
                   "stroke-width=\"1.5\" d=\"M%.1f %.1fL%.1f %.1fM%.1f %.1fh10\"/>\n",
                   colors[target], x, bottom - at(&p->y, p->times(s).p50), x, top, x - 5, top);
    }
    buf_printf(out,
               "<path fill=\"none\" stroke=\"%s\" stroke-width=\"2.5\" "
               "stroke-linejoin=\"round\" d=\"",
               colors[target]);
    for (unsigned i = 0; i < b->n_levels; i++) {
        const struct bench_stats *s = &b->levels[i].cells[target].stats;
        buf_printf(out, "%c%.1f %.1f", i ? 'L' : 'M', p->left + at(&p->x, rate_of(s)),
                   bottom - at(&p->y, p->times(s).p50));
    }
    buf_append_str(out, "\"/>\n");
    for (unsigned i = 0; i < b->n_levels; i++) {
        const struct bench_stats *s = &b->levels[i].cells[target].stats;
        double x = p->left + at(&p->x, rate_of(s)), y = bottom - at(&p->y, p->times(s).p50);
        buf_printf(out, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"4\" fill=\"%s\"/>", x, y,
                   colors[target]);
        buf_printf(out, "<text class=\"point\" x=\"%.1f\" y=\"%.1f\">%u</text>\n", x + 8,
                   y + (target ? 13 : -6), b->levels[i].concurrency);
    }
}

static void put_panel(struct buf *out, const struct bench_run *b, struct panel *p)
{
    double most_x = 0, most_y = 0;
    for (unsigned t = 0; t < b->n_targets; t++) {
        for (unsigned i = 0; i < b->n_levels; i++) {
            const struct bench_stats *s = &b->levels[i].cells[t].stats;
            most_x = fmax(most_x, rate_of(s));
            most_y = fmax(most_y, p->times(s).p99);
        }
    }
    p->x = axis_for(most_x, PANEL);
    p->y = axis_for(most_y, HEIGHT - TOP - BOTTOM);
    put_axes(out, p);
    for (unsigned t = 0; t < b->n_targets; t++)
        put_curve(out, b, p, t);
}

static void put_head(struct buf *out, const struct bench_run *b)
{
    buf_printf(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" "
        "height=\"%d\" font-family=\"system-ui,'Segoe UI',Helvetica,Arial,sans-serif\">\n"
        "<style>.grid{stroke:#e3e6ea}.axis{stroke:#8a929c}.tick{font-size:12px;fill:#5a636d}"
        ".label{font-size:12px;fill:#5a636d}.title{font-size:14px;font-weight:600;fill:#24292f}"
        ".point{font-size:11px;font-weight:600;fill:#24292f}"
        ".head{font-size:18px;font-weight:600;fill:#24292f}</style>\n"
        "<rect width=\"%d\" height=\"%d\" fill=\"#ffffff\"/>\n",
        WIDTH, HEIGHT, WIDTH, HEIGHT, WIDTH, HEIGHT);
    buf_append_str(out, "<text class=\"head\" x=\"40\" y=\"34\">");
    put_text(out, buf_str(&b->targets[0].model));
    buf_printf(out,
               "</text>\n<text class=\"label\" x=\"40\" y=\"54\">prompts of %u tokens, answers of "
               "%u; the number at a point: answers at once; line: median, whisker: 99 of 100 are "
               "below</text>\n",
               b->prompts.prompt_len, b->prompts.output_len);
    for (unsigned t = 0; b->n_targets > 1 && t < b->n_targets; t++) {
        int x = WIDTH - 40 - (t == 0 ? 330 : 240);
        buf_printf(
            out,
            "<circle cx=\"%d\" cy=\"29\" r=\"5\" fill=\"%s\"/><text class=\"label\" x=\"%d\" "
            "y=\"33\">",
            x, colors[t], x + 10);
        put_text(out, b->targets[t].name);
        buf_append_str(out, "</text>\n");
    }
}

int bench_plot_try(const char *path, struct err *err)
{
    struct out_file f;
    struct err ignored = ERR_INIT;
    if (out_file_open(&f, path, err) < 0)
        return err_wrap(err, "the plot");
    int rc = out_file_close(&f, -E_CANCELED, &ignored); /* and is gone again */
    return rc == -E_CANCELED ? 0 : rc;
}

int bench_plot(const struct bench_run *b, const char *path, struct err *err)
{
    struct panel panels[] = {{.title = "Time to the first token", .left = LEFT0, .times = get_ttft},
                             {.title = "Time per further token", .left = LEFT1, .times = get_tpot}};
    struct buf out;
    struct out_file f;
    buf_init(&out, MAX_SVG_BYTES);
    put_head(&out, b);
    for (size_t i = 0; i < ARRAY_LEN(panels); i++)
        put_panel(&out, b, &panels[i]);
    buf_append_str(&out, "</svg>\n");
    int rc = buf_status(&out, "the plot", err);
    if (rc == 0)
        rc = out_file_open(&f, path, err);
    if (rc == 0)
        rc = out_file_close(&f, out_file_write(&f, buf_str(&out), out.len, err), err);
    buf_release(&out);
    return rc < 0 ? err_wrap(err, "the plot") : 0;
}
