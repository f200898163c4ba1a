/* SPDX-License-Identifier: Apache-2.0 */
/* Implements command.h. */
#include "cli/chat/command.h"

#include <stdio.h>
#include <string.h>

#include "lib/base/near.h"

#define QUOTES "\"\"\""

enum need { NOTHING, MAYBE, TEXT };

static const struct row {
    const char *word, *sub; /* sub NULL: none */
    enum command_id id;
    enum need need;
    const char *form, *doc; /* doc NULL: another name of the row above */
} rows[] = {
    {"/set", "system", COMMAND_SET_SYSTEM, TEXT, "/set system TEXT",
     "what the model is told before everything; \"\" for nothing"},
    {"/set", "parameter", COMMAND_SET_PARAMETER, MAYBE, "/set parameter NAME VALUE",
     "a sampling parameter, or `default`; alone: lists them"},
    {"/set", "verbose", COMMAND_SET_VERBOSE, NOTHING, "/set verbose",
     "tokens, times and seed after each answer"},
    {"/set", "quiet", COMMAND_SET_QUIET, NOTHING, "/set quiet", "not any more"},
    {"/set", "history", COMMAND_SET_HISTORY, NOTHING, "/set history",
     "keep lines for arrow-up in later conversations"},
    {"/set", "nohistory", COMMAND_SET_NOHISTORY, NOTHING, "/set nohistory", "do not"},
    {"/set", "markdown", COMMAND_SET_MARKDOWN, NOTHING, "/set markdown", "show Markdown as styles"},
    {"/set", "nomarkdown", COMMAND_SET_NOMARKDOWN, NOTHING, "/set nomarkdown",
     "show answers as they are"},
    {"/set", NULL, COMMAND_SET, NOTHING, NULL, NULL},
    {"/show", "info", COMMAND_SHOW_INFO, NOTHING, "/show info", "the model"},
    {"/show", "system", COMMAND_SHOW_SYSTEM, NOTHING, "/show system", "the system message"},
    {"/show", "parameters", COMMAND_SHOW_PARAMETERS, NOTHING, "/show parameters",
     "the sampling parameters"},
    {"/show", "messages", COMMAND_SHOW_MESSAGES, NOTHING, "/show messages", "the conversation"},
    {"/show", NULL, COMMAND_SHOW, NOTHING, NULL, NULL},
    {"/undo", NULL, COMMAND_UNDO, NOTHING, "/undo", "forget the last question and its answer"},
    {"/retry", NULL, COMMAND_RETRY, NOTHING, "/retry", "ask the last question again"},
    {"/clear", NULL, COMMAND_CLEAR, NOTHING, "/clear",
     "forget the conversation, but not the settings"},
    {"/save", NULL, COMMAND_SAVE, TEXT, "/save FILE", "the conversation and its settings, as JSON"},
    {"/load", NULL, COMMAND_LOAD, TEXT, "/load FILE|MODEL",
     "a saved conversation, or another model for this one"},
    {"/bye", NULL, COMMAND_BYE, NOTHING, "/bye", "end (also Ctrl-D)"},
    {"/exit", NULL, COMMAND_BYE, NOTHING, NULL, NULL},
    {"/?", NULL, COMMAND_HELP, MAYBE, "/?", "this list; /? set and /? show for parts of it"},
    {"/help", NULL, COMMAND_HELP, MAYBE, NULL, NULL},
};

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static struct str trim(struct str s)
{
    while (s.len && is_space(s.p[0])) {
        s.p++;
        s.len--;
    }
    while (s.len && is_space(s.p[s.len - 1]))
        s.len--;
    return s;
}

/* Takes the first word off. */
static struct str take_word(struct str *s)
{
    struct str w = *s = trim(*s);
    size_t n = 0;
    while (n < s->len && !is_space(s->p[n]))
        n++;
    w.len = n;
    s->p += n;
    s->len -= n;
    *s = trim(*s);
    return w;
}

static int check(const struct row *r, struct str rest, struct err *err)
{
    if (r->need == TEXT && rest.len == 0)
        return err_set(err, E_INVALID, "%s%s%s needs something after it: %s", r->word,
                       r->sub ? " " : "", r->sub ? r->sub : "", r->form);
    if (r->need == NOTHING && rest.len > 0)
        return err_set(err, E_INVALID, "%s%s%s takes nothing after it", r->word, r->sub ? " " : "",
                       r->sub ? r->sub : "");
    return 0;
}

int command_parse(struct str line, struct command *ret, struct err *err)
{
    *ret = (struct command){COMMAND_MESSAGE, line};
    if (line.len == 0 || line.p[0] != '/')
        return 0;
    struct str rest = line, word = take_word(&rest), after = rest, sub = take_word(&after);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const struct row *r = &rows[i];
        if (!str_is(word, r->word) || (r->sub && !str_is(sub, r->sub)))
            continue;
        if ((r->id == COMMAND_SHOW || r->id == COMMAND_SET) && sub.len)
            continue;
        *ret = (struct command){r->id, r->sub ? after : rest};
        return check(r, ret->rest, err);
    }
    bool has_subs = str_is(word, "/set") || str_is(word, "/show");
    size_t n = has_subs && sub.len ? (size_t)(sub.p + sub.len - word.p) : word.len;
    *ret = (struct command){COMMAND_UNKNOWN, {word.p, n}};
    return 0;
}

const char *command_near(struct str text)
{
    char words[ARRAY_LEN(rows)][32], given[NEAR_WORD_BYTES + 1];
    const char *names[ARRAY_LEN(rows)];
    struct str rest = text, word = take_word(&rest), sub = take_word(&rest);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        snprintf(words[i], sizeof(words[i]), "%s%s%s", rows[i].word, rows[i].sub ? " " : "",
                 rows[i].sub ? rows[i].sub : "");
        names[i] = words[i];
    }
    snprintf(given, sizeof(given), "%.*s%s%.*s", STR_ARG(word), sub.len ? " " : "", STR_ARG(sub));
    const char *near = near_name(given, names, ARRAY_LEN(rows));
    for (size_t i = 0; near && i < ARRAY_LEN(rows); i++) {
        if (near == words[i]) /* as it stands in the list, which lives on */
            return rows[i].doc ? rows[i].form : rows[i].word;
    }
    return NULL;
}

bool command_is_open(struct str text)
{
    size_t n = 0, from = 0;
    text = trim(text);
    static const char *const openers[] = {QUOTES, "/set system " QUOTES};
    bool begins = false;
    for (size_t i = 0; i < ARRAY_LEN(openers); i++)
        begins |=
            text.len >= strlen(openers[i]) && memcmp(text.p, openers[i], strlen(openers[i])) == 0;
    if (!begins)
        return false;
    while (from + 3 <= text.len) {
        bool here = memcmp(text.p + from, QUOTES, 3) == 0;
        n += here;
        from += here ? 3 : 1;
    }
    return n < 2;
}

struct str command_unquote(struct str text, bool also_single)
{
    struct str s = trim(text);
    if (s.len >= 6 && memcmp(s.p, QUOTES, 3) == 0 && memcmp(s.p + s.len - 3, QUOTES, 3) == 0) {
        s.p += 3;
        s.len -= 6;
        if (s.len && s.p[0] == '\n') { /* the newlines that only part quotes from text */
            s.p++;
            s.len--;
        }
        if (s.len && s.p[s.len - 1] == '\n')
            s.len--;
        return s;
    }
    if (also_single && s.len >= 2 && s.p[0] == '"' && s.p[s.len - 1] == '"')
        return (struct str){s.p + 1, s.len - 2};
    return also_single ? s : text;
}

void command_help(const char *prefix, struct buf *out)
{
    size_t n = prefix ? strlen(prefix) : 0;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (rows[i].doc && (!n || strncmp(rows[i].word + 1, prefix, n) == 0))
            buf_printf(out, "  %-27s %s\n", rows[i].form, rows[i].doc);
    }
    if (n)
        return;
    buf_append_str(
        out, "\n  \"\"\" begins and ends a message of several lines; pasted ones stay together.\n"
             "  Ctrl-C stops an answer; a message that begins with / needs a space before it.\n"
             "  Arrows, Ctrl-A/E/B/F/K/U/W/L, Alt-B/F edit; Ctrl-R searches; Ctrl-Z "
             "suspends.\n");
}
