/* SPDX-License-Identifier: Apache-2.0 */
/* One page of the manual, told in pieces to a writer: plain text, roff, or Markdown.  All three
 * come from the command table alone.  Main thread. */
#ifndef CLI_HELP_PAGE_H
#define CLI_HELP_PAGE_H

#include <stdio.h>

#include "cli/commands.h"

struct page_writer {
    bool is_brief; /* options and exit statuses are told once, on the page of the program */
    /* "berth config show" and what it does */
    void (*title)(FILE *f, const char *name, const char *summary);
    void (*section)(FILE *f, const char *heading);
    /* "berth run MODEL [PROMPT...] [FLAGS]" */
    void (*synopsis)(FILE *f, const char *line);
    /* Paragraphs, parted by newlines; `...` is something to type. */
    void (*text)(FILE *f, const char *paragraphs);
    /* A term ("-n, --max-tokens N"; what follows names is upper case) and what it means. */
    void (*item)(FILE *f, const char *term, const char *meaning);
    /* A command line, and what it is for ("": speaks for itself). */
    void (*example)(FILE *f, const char *line, const char *meaning);
    void (*end)(FILE *f);
};

extern const struct page_writer page_text, page_man, page_markdown;

/* A command's page, or that of the program itself. */
void page_command(const struct page_writer *w, FILE *f, const struct cli_command *c);
void page_program(const struct page_writer *w, FILE *f);

/* What a flag's or an operand's value is, for those who complete it. */
enum value_kind { VALUE_NONE, VALUE_ANY, VALUE_FILE, VALUE_FOLDER, VALUE_CHOICE, VALUE_MODEL };
enum value_kind value_kind(const char *arg);

/* A flag of a command, whichever table it is from. */
struct page_flag {
    const char *name, *arg, *help; /* arg NULL: it has none; "a|b": one of these */
    char letter;
    unsigned how; /* CLI_REPEAT and so on */
};
/* Calls fn for every flag of c that a reader may know: its own, then options, then the common ones.
 */
typedef void (*page_flag_fn)(void *ctx, const struct page_flag *flag);
void page_flags(const struct cli_command *c, page_flag_fn fn, void *ctx);

/* Prints text in lines of at most width columns, each after `indent` spaces; column is where the
 * cursor stands.  A newline in text ends a paragraph. */
void page_wrap(FILE *f, const char *text, int indent, int column, int width);

#endif
