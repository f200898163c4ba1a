/* SPDX-License-Identifier: Apache-2.0 */
/* The three writers of pages. */
#include <ctype.h>
#include <string.h>

#include "cli/help/page.h"

#define TEXT_WIDTH     80
#define MARKDOWN_WIDTH 118
#define LINE_TAKES     64 /* bytes of text in a line of roff, escapes not counted */

void page_wrap(FILE *f, const char *text, int indent, int column, int width)
{
    while (*text) {
        size_t n = strcspn(text, " \n");
        if (column > indent && column + 1 + (int)n > width) {
            fputc('\n', f);
            column = 0;
        }
        if (column < indent) {
            fprintf(f, "%*s", indent - column, "");
            column = indent;
        } else if (column > indent) {
            fputc(' ', f);
            column++;
        }
        fprintf(f, "%.*s", (int)n, text);
        column += (int)n;
        text += n;
        if (*text == '\n') {
            fprintf(f, "\n\n");
            column = 0;
        }
        text += *text != '\0';
    }
    fputc('\n', f);
}

/* --- plain text, for a terminal --- */

static void text_title(FILE *f, const char *name, const char *summary)
{
    fprintf(f, "NAME\n    %s - %s\n", name, summary);
}

static void text_section(FILE *f, const char *heading)
{
    fprintf(f, "\n%s\n", heading);
}

static void text_synopsis(FILE *f, const char *line)
{
    page_wrap(f, line, 4, 0, TEXT_WIDTH);
}

static void text_text(FILE *f, const char *paragraphs)
{
    page_wrap(f, paragraphs, 4, 0, TEXT_WIDTH);
}

static void text_item(FILE *f, const char *term, const char *meaning)
{
    bool is_short = strlen(term) <= 3;
    fprintf(f, is_short ? "    %-4s" : "    %s\n", term);
    page_wrap(f, meaning, 8, is_short ? 8 : 0, TEXT_WIDTH);
}

static void text_example(FILE *f, const char *line, const char *meaning)
{
    fprintf(f, "    %s\n", line);
    if (*meaning)
        fprintf(f, "        %s\n", meaning);
}

static void nothing(FILE *f)
{
    (void)f;
}

const struct page_writer page_text = {false,     text_title, text_section, text_synopsis,
                                      text_text, text_item,  text_example, nothing};

/* --- roff with man(7)'s macros --- */

/* Text as roff reads it back: no character of it is an instruction; `...` is bold. */
static void roff(FILE *f, const char *s, size_t n, bool is_upper)
{
    bool is_bold = false;
    for (size_t i = 0; i < n; i++) {
        char c = s[i];
        if (is_upper && c >= 'a' && c <= 'z')
            c = (char)(c - 'a' + 'A');
        if (c == '`') {
            is_bold = !is_bold;
            fputs(is_bold ? "\\fB" : "\\fR", f);
        } else if (c == '\\') {
            fputs("\\e", f);
        } else if (c == '-') {
            fputs("\\-", f);
        } else if (c == '~') {
            fputs("\\(ti", f);
        } else if (c == '^') {
            fputs("\\(ha", f);
        } else if (c == '\'') {
            fputs("\\(aq", f);
        } else {
            if (i == 0 && c == '.')
                fputs("\\&", f);
            fputc(c, f);
        }
    }
}

/* One paragraph in lines that are not too long for an editor; breaks between words are free. */
static void roff_lines(FILE *f, const char *s, size_t n)
{
    while (n > 0) {
        size_t take = n;
        if (n > LINE_TAKES) {
            bool is_bold = false;
            take = 0;
            for (size_t i = 0; i < n && (i < LINE_TAKES || take == 0); i++) {
                is_bold ^= s[i] == '`';
                if (s[i] == ' ' && !is_bold)
                    take = i;
            }
            take = take ? take : n;
        }
        roff(f, s, take, false);
        fputc('\n', f);
        take += take < n;
        s += take;
        n -= take;
    }
}

static void man_title(FILE *f, const char *name, const char *summary)
{
    char dashed[80];
    size_t n = strlen(name);
    n = MIN_OF(n, sizeof(dashed) - 1);
    for (size_t i = 0; i < n; i++)
        dashed[i] = name[i] == ' ' ? '-' : name[i];
    dashed[n] = '\0';
    fprintf(f, ".\\\" Made by `berth help --man`; the text is in berth's command table.\n.TH ");
    roff(f, dashed, strlen(dashed), true);
    fprintf(f, " 1 \"%s\" \"berth %s\" \"berth manual\"\n.SH NAME\n", BERTH_DATE, BERTH_VERSION);
    roff(f, dashed, strlen(dashed), false);
    fputs(" \\- ", f);
    roff(f, summary, strlen(summary), false);
    fputc('\n', f);
}

static void man_section(FILE *f, const char *heading)
{
    fprintf(f, ".SH %s\n", heading);
}

static void man_synopsis(FILE *f, const char *line)
{
    fputs(".nh\n", f);
    roff_lines(f, line, strlen(line));
    fputs(".hy\n", f);
}

static void man_text(FILE *f, const char *paragraphs)
{
    for (const char *s = paragraphs; *s;) {
        size_t n = strcspn(s, "\n");
        if (s != paragraphs)
            fputs(".PP\n", f);
        roff_lines(f, s, n);
        s += n + (s[n] == '\n');
    }
}

static void man_item(FILE *f, const char *term, const char *meaning)
{
    fputs(".TP\n\\fB", f);
    roff(f, term, strlen(term), false);
    fputs("\\fR\n", f);
    roff_lines(f, meaning, strlen(meaning));
}

static void man_example(FILE *f, const char *line, const char *meaning)
{
    fputs(".TP\n\\fB", f);
    roff(f, line, strlen(line), false);
    fputs("\\fR\n", f);
    if (*meaning)
        roff_lines(f, meaning, strlen(meaning));
    else
        fputs("\\&\n", f);
}

const struct page_writer page_man = {false,    man_title, man_section, man_synopsis,
                                     man_text, man_item,  man_example, nothing};

/* --- Markdown: one section of docs/CLI.md --- */

/* A star in the text is a star. */
static void md_escape(const char *s, struct buf *out)
{
    bool is_code = false;
    for (; *s; s++) {
        is_code ^= *s == '`';
        if (!is_code && (*s == '*' || *s == '<' || *s == '>' || *s == '[' || *s == '|'))
            buf_append_char(out, '\\');
        buf_append_char(out, *s);
    }
}

static void md_wrapped(FILE *f, const char *s, int indent, int column)
{
    struct buf b;
    buf_init(&b, 65536);
    md_escape(s, &b);
    page_wrap(f, buf_str(&b), indent, column, MARKDOWN_WIDTH);
    buf_release(&b);
}

static void md_title(FILE *f, const char *name, const char *summary)
{
    fprintf(f, "\n## %s\n\n%c%s.\n", name, toupper((unsigned char)summary[0]), summary + 1);
}

static void md_section(FILE *f, const char *heading)
{
    if (strcmp(heading, "SYNOPSIS") == 0 || strcmp(heading, "DESCRIPTION") == 0)
        return;
    fprintf(f, "\n**%c", heading[0]);
    for (const char *s = heading + 1; *s; s++)
        fputc(*s >= 'A' && *s <= 'Z' ? *s - 'A' + 'a' : *s, f);
    fprintf(f, "**\n\n");
}

static void md_synopsis(FILE *f, const char *line)
{
    fprintf(f, "\n```\n%s\n```\n\n", line);
}

static void md_text(FILE *f, const char *paragraphs)
{
    md_wrapped(f, paragraphs, 0, 0);
}

static void md_item(FILE *f, const char *term, const char *meaning)
{
    int n = fprintf(f, "- `%s`:", term);
    md_wrapped(f, meaning, 2, n > 2 ? n : 3);
}

static void md_example(FILE *f, const char *line, const char *meaning)
{
    fprintf(f, "- `%s`%s%s\n", line, *meaning ? ": " : "", meaning);
}

const struct page_writer page_markdown = {true,    md_title, md_section, md_synopsis,
                                          md_text, md_item,  md_example, nothing};
