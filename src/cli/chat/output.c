/* SPDX-License-Identifier: Apache-2.0 */
/* Implements output.h. */
#include "cli/chat/output.h"

#include <errno.h>
#include <unistd.h>

#define PIECE_MAX_BYTES (64u << 20) /* of one event, and what its styles add */

void output_init(struct output *o, int fd, bool has_color, bool has_markdown)
{
    *o = (struct output){.fd = fd, .is_terminal = isatty(fd)};
    o->has_color = o->is_terminal && has_color;
    o->has_markdown = o->has_color && has_markdown;
    markdown_init(&o->md);
    buf_init(&o->piece, PIECE_MAX_BYTES);
}

void output_release(struct output *o)
{
    markdown_release(&o->md);
    buf_release(&o->piece);
}

static void write_all(struct output *o, const char *p, size_t n)
{
    if (n)
        o->last = p[n - 1];
    while (n && !o->write_errno) {
        ssize_t done = write(o->fd, p, n);
        if (done < 0 && errno != EINTR)
            o->write_errno = errno;
        if (done > 0) {
            p += done;
            n -= (size_t)done;
        }
    }
}

static void drain(struct output *o)
{
    write_all(o, buf_str(&o->piece), o->piece.len);
    buf_clear(&o->piece);
}

static void end_thinking(struct output *o)
{
    if (o->has_color)
        text_put_style(&o->piece, 0);
    buf_append_str(&o->piece, o->last == '\n' ? "\n" : "\n\n");
}

void output_text(struct output *o, const char *p, size_t n)
{
    if (n == 0)
        return;
    if (!o->is_terminal) {
        write_all(o, p, n);
        return;
    }
    if (o->part == OUTPUT_THINKING)
        end_thinking(o);
    o->part = OUTPUT_ANSWER;
    if (o->has_markdown)
        markdown_feed(&o->md, p, n, &o->piece);
    else
        text_put_harmless(&o->piece, p, n);
    drain(o);
}

void output_thinking(struct output *o, const char *p, size_t n)
{
    if (n == 0 || !o->is_terminal)
        return;
    if (o->has_color && o->part != OUTPUT_THINKING)
        text_put_style(&o->piece, TEXT_DIM);
    else if (o->part == OUTPUT_NOTHING)
        buf_append_str(&o->piece, "Thinking:\n");
    o->part = OUTPUT_THINKING;
    text_put_harmless(&o->piece, p, n);
    drain(o);
}

void output_end(struct output *o)
{
    if (o->part == OUTPUT_THINKING && o->has_color)
        text_put_style(&o->piece, 0);
    if (o->part == OUTPUT_ANSWER && o->has_markdown)
        markdown_end(&o->md, &o->piece);
    /* A style's end is no text: it must not hide that the line is open. */
    char last = o->last;
    for (size_t i = 0; i < o->piece.len; i++) {
        if (o->piece.data[i] == '\033')
            while (i < o->piece.len && o->piece.data[i] != 'm')
                i++;
        else
            last = o->piece.data[i];
    }
    drain(o);
    if (last && last != '\n')
        write_all(o, "\n", 1);
    o->part = OUTPUT_NOTHING;
    o->last = 0;
}
