/* SPDX-License-Identifier: Apache-2.0 */
/* Markdown for a terminal, as it arrives: headings, emphasis, code, lists, quotes and rules become
 * styles (SGR sequences); all else is printed as it stands.  The input is a model's and hostile:
 * whatever could drive a terminal is made visible instead, and no text is lost by what turns out
 * not to be Markdown.
 *
 * Pure: text in, text out; no I/O.  One thread at a time. */
#ifndef CLI_CHAT_MARKDOWN_H
#define CLI_CHAT_MARKDOWN_H

#include "lib/base/buf.h"

struct markdown {         /* owns its buffer */
    struct buf line;      /* what came and cannot be decided yet */
    unsigned base, style; /* of the line; what the terminal is set to */
    uint32_t last;        /* the character before line.data, 0 at the beginning of a line */
    bool in_text;         /* past the marks that a line begins with */
    char fence;           /* the mark of the code block that is open, 0: none */
    size_t fence_len;
};

void markdown_init(struct markdown *m);
void markdown_release(struct markdown *m);
/* Takes a piece of any size and appends to out what can be shown of it. */
void markdown_feed(struct markdown *m, const char *p, size_t n, struct buf *out);
/* The text has ended: shows what was held back, resets the terminal's style and m. */
void markdown_end(struct markdown *m, struct buf *out);

/* Appends text without anything that a terminal obeys but newlines and tabs: control characters
 * become their pictures (U+2400 ...), carriage returns nothing, C1 controls, direction overrides
 * and invalid UTF-8 U+FFFD. */
void text_put_harmless(struct buf *out, const char *p, size_t n);

/* "\033[...m" for a set of styles. */
enum text_style {
    TEXT_BOLD = 1,
    TEXT_DIM = 2,
    TEXT_ITALIC = 4,
    TEXT_UNDERLINE = 8,
    TEXT_CODE = 16, /* cyan */
    TEXT_GREY = 32
};
void text_put_style(struct buf *out, unsigned style);

#endif
