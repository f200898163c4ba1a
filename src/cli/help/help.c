/* SPDX-License-Identifier: Apache-2.0 */
/* `berth help`: pages on a terminal, as files for man(1), and as the reference in docs/CLI.md. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/help/page.h"
#include "lib/base/limits.h"

void cli_help_command(const struct cli_command *c)
{
    page_command(&page_text, stdout, c);
}

/* Whether a command's row stands among those of a group, or, with "", on the page of all. */
static bool is_in(const struct cli_command *c, const char *group)
{
    size_t len = strlen(group), n;
    const struct cli_group *g = cli_groups(&n);
    if (len)
        return strncmp(c->name, group, len) == 0 && c->name[len] == ' ';
    for (size_t i = 0; i < n; i++) {
        if (is_in(c, g[i].name))
            return false;
    }
    return true;
}

static void summary_rows(const char *group)
{
    size_t n;
    const struct cli_command *c = cli_commands(&n);
    for (size_t i = 0; i < n; i++) {
        if (!is_in(&c[i], group))
            continue;
        char left[80];
        snprintf(left, sizeof(left), "%s %s", c[i].name, c[i].operands);
        printf("    %-26s %s\n", left, c[i].summary);
    }
}

void cli_help_all(void)
{
    size_t n;
    const struct cli_group *g = cli_groups(&n);
    printf("berth runs AI models: pinned, declared, watched.\n\n"
           "USAGE\n    berth COMMAND [OPERANDS] [FLAGS]\n\nCOMMANDS\n");
    summary_rows("");
    for (size_t i = 0; i < n; i++) {
        char left[80];
        snprintf(left, sizeof(left), "%s COMMAND", g[i].name);
        printf("    %-26s %s\n", left, g[i].summary);
    }
    printf("\n`berth help COMMAND` (or `berth COMMAND --help`) explains one of them.\n");
}

void cli_help_group(const struct cli_group *group)
{
    printf("USAGE\n    berth %s COMMAND [OPERANDS] [FLAGS]\n\nCOMMANDS\n", group->name);
    summary_rows(group->name);
    printf("\n%s\n`berth help %s COMMAND` explains one of them.\n", group->about, group->name);
}

static int man_file(const char *dir, const char *name, const struct cli_command *c, struct err *err)
{
    struct buf path;
    buf_init(&path, LIMIT_PATH_BYTES);
    buf_printf(&path, "%s/berth", dir);
    for (const char *s = name; *s; s++)
        buf_append_char(&path, *s == ' ' ? '-' : *s);
    buf_append_str(&path, ".1");
    FILE *f = fopen(buf_str(&path), "we");
    if (f && c)
        page_command(&page_man, f, c);
    else if (f)
        page_program(&page_man, f);
    int rc = 0;
    if (!f || fclose(f) != 0)
        rc = err_set_sys(err, E_IO, "writing %s", buf_str(&path));
    buf_release(&path);
    return rc;
}

/* Every page as a file of its own, for `make install`. */
static int man_files(const char *dir)
{
    struct err err = ERR_INIT;
    size_t n;
    const struct cli_command *c = cli_commands(&n);
    int rc = man_file(dir, "", NULL, &err);
    for (size_t i = 0; i < n && rc == 0; i++) {
        char name[64];
        snprintf(name, sizeof(name), " %s", c[i].name);
        rc = man_file(dir, name, &c[i], &err);
    }
    return rc < 0 ? cli_fail(&err) : CLI_OK;
}

static void markdown(void)
{
    size_t n;
    const struct cli_command *c = cli_commands(&n);
    printf("# Commands\n\nMade by `berth help --markdown` from the command table; a test holds the "
           "two together.\n");
    page_program(&page_markdown, stdout);
    for (size_t i = 0; i < n; i++)
        page_command(&page_markdown, stdout, &c[i]);
}

int cmd_help(const struct cli_args *a)
{
    const struct page_writer *w = cli_has(a, "man") ? &page_man : &page_text;
    int n = (int)a->n_operands, n_words = 0;
    if (cli_flag(a, "man-dir"))
        return man_files(cli_flag(a, "man-dir"));
    if (cli_has(a, "markdown")) {
        markdown();
    } else if (n == 0 && w == &page_man) {
        page_program(w, stdout);
    } else if (n == 0) {
        cli_help_all();
    } else {
        char *words[2] = {(char *)a->operands[0], n > 1 ? (char *)a->operands[1] : NULL};
        const struct cli_group *group = n == 1 ? cli_group_find(words[0]) : NULL;
        const struct cli_command *c = group ? NULL : cli_find(n, words, &n_words);
        if (group)
            cli_help_group(group);
        else if (c && n_words != n) {
            fprintf(stderr,
                    "berth: `berth %s` has no commands of its own; `berth help %s` explains it\n",
                    c->name, c->name);
            return CLI_USAGE;
        } else if (!c)
            return cli_unknown(n, words);
        else
            page_command(w, stdout, c);
    }
    return CLI_OK;
}
