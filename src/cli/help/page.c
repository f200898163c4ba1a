/* SPDX-License-Identifier: Apache-2.0 */
/* What stands on a page, and in which order: the same for every writer. */
#include "cli/help/page.h"

#include <string.h>

enum value_kind value_kind(const char *arg)
{
    if (!arg)
        return VALUE_NONE;
    if (strchr(arg, '|'))
        return VALUE_CHOICE;
    if (strcmp(arg, "FILE") == 0 || strcmp(arg, "PATH") == 0 || strcmp(arg, "TEMPLATE") == 0)
        return VALUE_FILE;
    if (strncmp(arg, "DIR", 3) == 0)
        return VALUE_FOLDER;
    return strcmp(arg, "MODEL") == 0 ? VALUE_MODEL : VALUE_ANY;
}

static bool is_option(const struct cli_command *c, int id)
{
    return (c->config & (1ull << id)) && config_option((enum config_id)id)->type != CONFIG_SECRET;
}

static void tell(const struct cli_flag *f, page_flag_fn fn, void *ctx)
{
    struct page_flag flag = {f->name, f->arg, f->help, f->letter, f->how};
    if (!(f->how & CLI_HIDDEN))
        fn(ctx, &flag);
}

void page_flags(const struct cli_command *c, page_flag_fn fn, void *ctx)
{
    for (const struct cli_flag *f = c->flags; f && f->name; f++)
        tell(f, fn, ctx);
    for (int id = 0; id < CONFIG_N_OPTIONS; id++) {
        const struct config_option *o = config_option((enum config_id)id);
        const char *arg = o->type == CONFIG_SWITCH ? NULL : o->choices[0] ? o->choices : o->arg;
        struct page_flag flag = {o->key, arg, o->help, 0, CLI_REPEAT};
        if (is_option(c, id))
            fn(ctx, &flag);
    }
    if (c->config)
        tell(&cli_config_flag, fn, ctx);
    tell(&cli_help_flag, fn, ctx);
}

static void put_synopsis(const struct page_writer *w, FILE *f, const struct cli_command *c)
{
    struct buf line;
    const char *between = "";
    bool operand_counts = c->max_operands > 0 && c->min_operands == 0, has_choice = false;
    buf_init(&line, 4096);
    for (const struct cli_flag *x = c->flags; x && x->name; x++)
        has_choice |= (x->how & CLI_ONE_OF) != 0;
    buf_printf(&line, "berth %s", c->name);
    if (c->operands[0] && !(has_choice && operand_counts))
        buf_printf(&line, " %s", c->operands);
    for (const struct cli_flag *x = c->flags; x && x->name; x++) {
        if (x->how & CLI_REQUIRED)
            buf_printf(&line, " --%s %s", x->name, x->arg ? x->arg : "");
    }
    if (has_choice)
        buf_append_str(&line, " (");
    if (has_choice && operand_counts) {
        buf_printf(&line, "%.*s", (int)strcspn(c->operands + 1, "]"), c->operands + 1);
        between = " | ";
    }
    for (const struct cli_flag *x = c->flags; x && x->name; x++) {
        if (!(x->how & CLI_ONE_OF))
            continue;
        buf_printf(&line, "%s--%s%s%s", between, x->name, x->arg ? " " : "", x->arg ? x->arg : "");
        between = " | ";
    }
    buf_append_str(&line, has_choice ? ") [FLAGS]" : " [FLAGS]");
    w->synopsis(f, buf_str(&line));
    buf_release(&line);
}

static void put_flag(const struct page_writer *w, FILE *f, const struct cli_flag *x)
{
    char term[96], letter[8] = "";
    if (x->how & CLI_HIDDEN)
        return;
    if (x->letter)
        snprintf(letter, sizeof(letter), "-%c, ", x->letter);
    snprintf(term, sizeof(term), "%s--%s%s%s", letter, x->name, x->arg ? " " : "",
             x->arg ? x->arg : "");
    w->item(f, term, x->help);
}

/* Appends the variables of other programs that count where the option's own is unset. */
static void put_foreign(const struct config_option *o, char *env, size_t size)
{
    const char *other;
    for (unsigned i = 0; (other = config_foreign_env(config_find(o->key), i)); i++) {
        size_t n = strlen(env);
        snprintf(env + n, size - n, ", else %s", other);
    }
}

static void put_option(const struct page_writer *w, FILE *f, const struct config_option *o)
{
    char env[160], term[192];
    struct buf meaning;
    const char *arg = o->choices[0] ? o->choices : o->arg;
    config_env_name(o->key, env);
    buf_init(&meaning, 4096);
    buf_append_str(&meaning, o->help);
    if (o->dflt[0] && strcmp(o->dflt, "0") != 0)
        buf_printf(&meaning, "; default %s", o->dflt);
    if (o->type == CONFIG_SECRET) { /* no flag: others could read it */
        snprintf(term, sizeof(term), "%s", env);
        put_foreign(o, env, sizeof(env));
        buf_printf(&meaning,
                   " (%s; or `%s = %s` in the configuration file; no flag, which others "
                   "could read)",
                   env, o->key, o->arg);
    } else {
        snprintf(term, sizeof(term), "--%s%s%s", o->key, arg ? " " : "", arg ? arg : "");
        put_foreign(o, env, sizeof(env));
        buf_printf(&meaning, " (%s)", env);
    }
    w->item(f, term, buf_str(&meaning));
    buf_release(&meaning);
}

/* One line, for a writer that has told of all options on the page of the program. */
static void put_option_names(const struct page_writer *w, FILE *f, const struct cli_command *c)
{
    struct buf names;
    const char *sep = "";
    if (!c->config)
        return;
    buf_init(&names, 8192);
    for (int id = 0; id < CONFIG_N_OPTIONS; id++) {
        const struct config_option *o = config_option((enum config_id)id);
        if (!(c->config & (1ull << id)))
            continue;
        buf_printf(&names, "%s`%s%s`", sep, o->type == CONFIG_SECRET ? "" : "--", o->key);
        sep = ", ";
    }
    w->section(f, "OPTIONS");
    w->text(f, buf_str(&names));
    buf_release(&names);
}

static void put_examples(const struct page_writer *w, FILE *f, const char *examples)
{
    for (const char *s = examples; *s;) {
        char line[256], meaning[256];
        size_t n = strcspn(s, "\t"), end = strcspn(s, "\n");
        snprintf(line, sizeof(line), "%.*s", (int)MIN_OF(n, end), s);
        snprintf(meaning, sizeof(meaning), "%.*s", end > n ? (int)(end - n - 1) : 0, s + n + 1);
        w->example(f, line, end > n ? meaning : "");
        s += end + (s[end] == '\n');
    }
}

static void put_status(const struct page_writer *w, FILE *f)
{
    w->section(f, "EXIT STATUS");
    w->item(f, "0", "done");
    w->item(f, "1", "it could not be done; a sentence on standard error says why");
    w->item(f, "2", "the command line is wrong");
    w->item(f, "130", "interrupted by Ctrl-C");
}

void page_command(const struct page_writer *w, FILE *f, const struct cli_command *c)
{
    char name[64];
    snprintf(name, sizeof(name), "berth %s", c->name);
    w->title(f, name, c->summary);
    w->section(f, "SYNOPSIS");
    put_synopsis(w, f, c);
    w->section(f, "DESCRIPTION");
    w->text(f, c->about);
    w->section(f, "FLAGS");
    for (const struct cli_flag *x = c->flags; x && x->name; x++)
        put_flag(w, f, x);
    put_flag(w, f, &cli_help_flag);
    if (w->is_brief)
        put_option_names(w, f, c);
    if (c->config && !w->is_brief) {
        w->section(f, "OPTIONS");
        w->text(f, "Each may also stand in the environment, under the name in brackets, or in the "
                   "configuration file as `name = value`. A flag counts before the environment, "
                   "and that before the file.");
        put_flag(w, f, &cli_config_flag);
    }
    for (int id = 0; id < CONFIG_N_OPTIONS; id++) {
        if ((c->config & (1ull << id)) && !w->is_brief)
            put_option(w, f, config_option((enum config_id)id));
    }
    if (c->examples) {
        w->section(f, "EXAMPLES");
        put_examples(w, f, c->examples);
    }
    if (!w->is_brief)
        put_status(w, f);
    w->end(f);
}

void page_program(const struct page_writer *w, FILE *f)
{
    size_t n;
    const struct cli_command *c = cli_commands(&n);
    w->title(f, "berth", "run AI models: pinned, declared, watched");
    w->section(f, "SYNOPSIS");
    w->synopsis(f, "berth COMMAND [OPERANDS] [FLAGS]");
    w->section(f, "DESCRIPTION");
    w->text(f, "One program holds the command line, a daemon with an OpenAI-compatible API, and an "
               "inference engine. Each loaded model runs in a process of its own, without network "
               "or files. A command that needs the daemon speaks to the one that listens, and "
               "`berth run`, `berth list` and `berth configure` start one where none does.\n"
               "Results go to standard output, everything else to standard error.");
    w->section(f, "COMMANDS");
    for (size_t i = 0; i < n; i++) {
        char term[160];
        snprintf(term, sizeof(term), "berth %s %s", c[i].name, c[i].operands);
        if (!c[i].operands[0])
            term[strlen(term) - 1] = '\0';
        w->item(f, term, c[i].summary);
    }
    if (w->is_brief) {
        w->section(f, "OPTIONS");
        w->text(f,
                "Each is a flag of the commands that name it, a variable of the environment, and "
                "a line `name = value` of the configuration file. A flag counts before the "
                "environment, and that before the file.\n");
        put_flag(w, f, &cli_config_flag);
    }
    for (int id = 0; w->is_brief && id < CONFIG_N_OPTIONS; id++)
        put_option(w, f, config_option((enum config_id)id));
    w->section(f, "ENVIRONMENT");
    w->item(f, "BERTH_CONFIG", "the configuration file, as with --config");
    w->item(f, "BERTH_PORT, BERTH_API_KEY ...",
            "every option of `berth config show`, by its name "
            "in capitals with _ for -");
    w->item(f, "NO_COLOR", "no colours on a terminal either");
    w->section(f, "FILES");
    w->item(f, "~/.config/berth/config",
            "options as lines `name = value` (under XDG_CONFIG_HOME where that is set); "
            "/etc/berth/config where a user has none");
    w->item(f, "~/.local/share/berth/models", "models, by file name");
    w->item(f, "~/.local/state/berth",
            "logs and what is declared of models (under XDG_STATE_HOME where that is set)");
    put_status(w, f);
    w->end(f);
}
