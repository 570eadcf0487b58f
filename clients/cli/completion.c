#include "clients/cli/completion.h"

#include <string.h>

/* What an option's `words` list, with blanks between them. */
static void completion_words(const char *words, FILE *out) {
    for (; *words; words++) fputc(*words == '|' ? ' ' : *words, out);
}

void completion_options(const struct args_option *options, FILE *out) {
    for (const struct args_option *o = options; o && o->name; o++) fprintf(out, "--%s ", o->name);
}

void completion_takers(const struct args_option *options, FILE *out) {
    const char *before = "";
    for (const struct args_option *o = options; o->name; o++) {
        if (!o->argument) continue;
        fprintf(out, "%s--%s", before, o->name);
        before = "|";
        if (o->letter) fprintf(out, "|-%c", o->letter);
    }
}

void completion_bash_values(const char *command, const struct args_option *options, FILE *out) {
    for (const struct args_option *o = options; o && o->name; o++) {
        if (!o->argument) continue;
        const char *begin = command ? "'" : "*'", *name = command ? command : "";
        fprintf(out, "        %s%s --%s'", begin, name, o->name);
        if (o->letter) fprintf(out, "|%s%s -%c'", begin, name, o->letter);
        if (o->words && *o->words == '@') {
            fputs(") COMPREPLY=($(compgen -f -- \"$cur\")); return;;\n", out);
        } else {
            fputs(") COMPREPLY=($(compgen -W '", out);
            completion_words(o->words ? o->words : "", out);
            fputs("' -- \"$cur\")); return;;\n", out);
        }
    }
}

/* zsh runs the whole file, as a function of the file's name, when something is to be completed for
 * the first time: then it has to be done as well, or the first Tab would be in vain. */
static void completion_zsh_first(const char *program) {
    printf("[[ $funcstack[1] != _%s ]] || _bash_complete -o filenames -F _", program);
    for (; *program; program++) putchar(*program == '-' ? '_' : *program);
    putchar('\n');
}

bool completion_print(const char *program, const char *shell, void (*bash)(FILE *out),
                      void (*fish)(FILE *out)) {
    bool zsh = strcmp(shell, "zsh") == 0;
    if (zsh) printf("#compdef %s\nautoload -U +X bashcompinit && bashcompinit\n", program);
    if (zsh || strcmp(shell, "bash") == 0) bash(stdout);
    else if (strcmp(shell, "fish") == 0) fish(stdout);
    else return false;
    if (zsh) completion_zsh_first(program);
    return true;
}

/* Only \ and ' are special between single quotes. */
void completion_fish_text(const char *text, FILE *out) {
    fputc('\'', out);
    for (; *text; text++) {
        if (*text == '\\' || *text == '\'') fputc('\\', out);
        fputc(*text, out);
    }
    fputc('\'', out);
}

void completion_fish_options(const char *program, const char *condition,
                             const struct args_option *options, FILE *out) {
    for (const struct args_option *o = options; o && o->name; o++) {
        fprintf(out, "complete -c %s%s -l %s", program, condition, o->name);
        if (o->letter) fprintf(out, " -s %c", o->letter);
        if (o->argument) fputs(o->words && *o->words == '@' ? " -r -F" : " -x", out);
        if (o->words && *o->words != '@') {
            fputs(" -a '", out);
            completion_words(o->words, out);
            fputc('\'', out);
        }
        fputs(" -d ", out);
        completion_fish_text(o->help, out);
        fputc('\n', out);
    }
}
