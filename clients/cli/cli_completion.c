/* Completions for bash, zsh and fish, made from the command table. */
#include <stdlib.h>
#include <string.h>

#include "clients/cli/cli.h"
#include "clients/cli/completion.h"

/* The first words of all commands, each once. */
static void completion_first_words(FILE *out) {
    char before[32] = "";
    for (const struct cli_command *c = cli_commands; c->name; c++) {
        int size = (int)strcspn(c->name, " ");
        if ((size_t)size == strlen(before) && strncmp(before, c->name, (size_t)size) == 0) continue;
        snprintf(before, sizeof before, "%.*s", size, c->name);
        fprintf(out, "%s ", before);
    }
}

/* Calls put(first word, its size) once for each group such as "store", behind a separator. */
static void completion_groups(const char *separator, void (*put)(const char *, int, FILE *),
                              FILE *out) {
    const char *before = "";
    int before_size = 0;
    for (const struct cli_command *c = cli_commands; c->name; c++) {
        int size = (int)strcspn(c->name, " ");
        if (!c->name[size] || (size == before_size && strncmp(before, c->name, (size_t)size) == 0))
            continue;
        if (before_size) fputs(separator, out);
        before = c->name;
        before_size = size;
        put(before, size, out);
    }
}

static void completion_group_name(const char *group, int size, FILE *out) {
    fprintf(out, "%.*s", size, group);
}

/* What follows the group's name, as a command or behind help. */
static void completion_group_words(const char *group, int size, FILE *out) {
    fprintf(out, "        %.*s|'help %.*s') words='", size, group, size, group);
    for (const struct cli_command *c = cli_commands; c->name; c++) {
        if (strncmp(c->name, group, (size_t)size + 1) == 0) fprintf(out, "%s ", c->name + size + 1);
    }
    fputs("';;\n", out);
}

static void completion_bash(FILE *out) {
    char *groups = NULL;
    size_t groups_bytes = 0;
    FILE *list = open_memstream(&groups, &groups_bytes);
    if (!list) return;
    fputs("help|", list);
    completion_groups("|", completion_group_name, list);
    fclose(list);
    completion_bash_begin("jumun", cli_global_options, groups, out);
    free(groups);
    fputs("    case \"$command $prev\" in\n", out);
    for (const struct cli_command *c = cli_commands; c->name; c++) {
        completion_bash_values(c->name, c->options, out);
    }
    completion_bash_values(NULL, cli_global_options, out);
    fputs("    esac\n    case $command in\n        '') words='", out);
    completion_first_words(out);
    fputs("'; words+=$global;;\n", out);
    completion_groups("", completion_group_words, out);
    fputs("        help|encode) words='", out);
    completion_first_words(out);
    fputs("';;\n", out);
    for (const struct cli_command *c = cli_commands; c->name; c++) {
        if ((!c->options && !c->writes && !c->words) || c->run == cli_encode) continue;
        fprintf(out, "        '%s') words='", c->name);
        if (c->words && *c->words != '@') completion_words(c->words, out);
        fputc(' ', out);
        completion_options(c->options, out);
        if (c->writes) completion_options(cli_write_options, out);
        fputs("'; words+=$global;;\n", out);
    }
    fputs("        *) words=$global;;\n    esac\n    case \"$command $cur\" in\n"
          "        *' -'*) ;;\n", out);
    for (const struct cli_command *c = cli_commands; c->name; c++)
        if (c->words && *c->words == '@')
            fprintf(out, "        '%s '*) COMPREPLY=($(compgen -f -- \"$cur\")); return;;\n",
                    c->name);
    fputs("    esac\n    COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n}\n"
          "complete -o filenames -F _jumun jumun\n", out);
}

static void completion_fish(FILE *out) {
    fputs("# fish completion of jumun\ncomplete -c jumun -f\n", out);
    completion_fish_options("jumun", "", cli_global_options, out);
    for (const struct cli_command *c = cli_commands; c->name; c++) {
        char condition[160];
        const char *second = strchr(c->name, ' ');
        int size = (int)strcspn(c->name, " ");
        if (second) {
            fprintf(out, "complete -c jumun -n '__fish_seen_subcommand_from %.*s' -a %s -d ", size,
                    c->name, second + 1);
        } else {
            fprintf(out, "complete -c jumun -n __fish_use_subcommand -a %s -d ", c->name);
        }
        completion_fish_text(c->summary, out);
        fputc('\n', out);
        if (c->words) {
            bool files = *c->words == '@';
            fprintf(out, "complete -c jumun -n '__fish_seen_subcommand_from %.*s%s%s'", size,
                    c->name, second ? "; and __fish_seen_subcommand_from" : "",
                    second ? second : "");
            fputs(files ? " -F" : " -a '", out);
            if (!files) completion_words(c->words, out);
            fputs(files ? "\n" : "'\n", out);
        }
        snprintf(condition, sizeof condition, " -n '__fish_seen_subcommand_from %.*s'", size,
                 c->name);
        completion_fish_options("jumun", condition, c->options, out);
        if (c->writes) completion_fish_options("jumun", condition, cli_write_options, out);
    }
    fputs("complete -c jumun -n __fish_use_subcommand -a store -d 'pause, resume or show a store'\n"
          "complete -c jumun -n __fish_use_subcommand -a replica -d 'look after replicas'\n"
          "complete -c jumun -n __fish_use_subcommand -a key -d 'make or read keys'\n"
          "complete -c jumun -n __fish_use_subcommand -a cluster -d 'form and change a cluster'\n",
          out);
}

int cli_completion(struct cli *cli) {
    const char *shell = cli_word(cli, 0);
    if (completion_print("jumun", shell, completion_bash, completion_fish)) return CLI_DONE;
    return cli_usage(cli, "\"%.40s\" is not bash, zsh or fish", shell);
}
