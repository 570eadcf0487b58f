#include "clients/cli/completion.h"

#include <string.h>

void completion_words(const char *words, FILE *out) {
    for (; *words; words++) fputc(*words == '|' ? ' ' : *words, out);
}

void completion_options(const struct args_option *options, FILE *out) {
    for (const struct args_option *o = options; o && o->name; o++) fprintf(out, "--%s ", o->name);
}

/* "--name|-n|--other": those of the table that take the next word with them. */
static void completion_takers(const struct args_option *options, FILE *out) {
    const char *before = "";
    for (const struct args_option *o = options; o->name; o++) {
        if (!o->argument) continue;
        fprintf(out, "%s--%s", before, o->name);
        before = "|";
        if (o->letter) fprintf(out, "|-%c", o->letter);
    }
}

/* "_jumun_replay" */
static void completion_function(const char *program, FILE *out) {
    fputc('_', out);
    for (; *program; program++) fputc(*program == '-' ? '_' : *program, out);
}

/* bash parts words at : and =, so that tcp://host:7400 comes as five of them and --name=value as
 * three: they are put together first. */
void completion_bash_begin(const char *program, const struct args_option *global,
                           const char *groups, FILE *out) {
    fprintf(out, "# bash completion of %s\n", program);
    completion_function(program, out);
    fputs("() {\n"
          "    local cur prev= word i last command= words= typed=() global='", out);
    completion_options(global, out);
    fputs("'\n"
          "    for ((i = 1; i <= COMP_CWORD; i++)); do\n"
          "        word=${COMP_WORDS[i]} last=$((${#typed[@]} - 1))\n"
          "        if ((last >= 0)) && [[ $word == [:=]* || ${typed[last]} == *[:=] ]]; then\n"
          "            typed[last]+=$word\n"
          "        else\n"
          "            typed+=(\"$word\")\n"
          "        fi\n"
          "    done\n"
          "    last=$((${#typed[@]} - 1)) cur=${typed[last]}\n"
          "    ((last > 0)) && prev=${typed[last-1]}\n"
          "    [[ $cur == --*=* ]] && prev=${cur%%=*} cur=${cur#*=}\n"
          "    for ((i = 0; i < last; i++)); do\n"
          "        case ${typed[i]} in\n            ", out);
    completion_takers(global, out);
    fputs(") ((i++));;\n            -*) ;;\n", out);
    if (*groups)
        fprintf(out, "            %s) command=${typed[i]}\n"
                     "                ((i + 1 < last)) && command+=\" ${typed[i+1]}\"; break;;\n",
                groups);
    fputs("            *) command=${typed[i]}; break;;\n"
          "        esac\n    done\n", out);
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
    printf("[[ $funcstack[1] != _%s ]] || _bash_complete -o filenames -F ", program);
    completion_function(program, stdout);
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
