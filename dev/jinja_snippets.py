# SPDX-License-Identifier: Apache-2.0
"""What dev/jinja_diff.py renders: snippets of the language, and conversations for whole templates."""
import itertools

CONTEXT = {
    "s": "Hello, Wörld! <b>&\"quoted\" 'single'</b>", "empty": "", "text": "  one two\tthree\n\n four  ", "n": 42, "neg": -7,
    "f": 3.14159, "big": 12345678901, "t": True, "no": False, "nil": None, "l": [3, 1, 2], "names": ["bob", "Alice", "carol"],
    "d": {"b": 1, "a": 2, "C": [1, {"x": None}], "items": "shadow"}, "nested": [[1, 2], [3, 4], []],
    "users": [{"name": "ann", "age": 30, "tags": ["x"]}, {"name": "Bob", "age": 25}, {"name": "cid", "age": 30, "admin": True}],
    "uni": "naïve 🙂 ß ﬁ ΑΣ İstanbul\u00a0x\u2028y", "html": "<p>a &amp; b</p>", "lines": "a\nb\r\nc\n\nd",
    "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo"}], "zero": 0, "half": 0.5,
    "mixed": [1, "two", 3.0, None, True, [4], {"k": "v"}], "tree": [{"v": 1, "c": [{"v": 2, "c": [{"v": 3, "c": []}]}]}, {"v": 4, "c": []}],
}

# expressions printed one by one
EXPRS = r"""
1 + 2 * 3 - 4 / 2
7 // 2; -7 // 2; 7 % 3; -7 % 3; 7 % -3; 7.5 // 2; -7.5 % 2; 2 ** 10; 2 ** -1; 2 ** 3 ** 2; -2 ** 2
1 / 0
1 // 0; 5 % 0
1.0; 1e3; 1e16; 1e15; 123456789012345680.0; 1e-4; 1e-5; 0.1 + 0.2; 1.5e300 * 1e10; 3.0 * 2; 10 / 4; 1_000; 0x1f; 0b101; 0o17; 1.5e-7
true; false; none; True; None; not true; not none
'a' 'b'; 'a' + 'b'; 'a' * 3; 3 * 'ab'; 'a' ~ 1 ~ none ~ true ~ 1.5 ~ [1, 'x'] ~ undefined_thing
'a' + 1
1 + 'a'
[1] + [2]; [1] * 2; (1, 2) + (3,); [1] + (2,)
none + 1
undefined_thing + 1
'a' + undefined_thing
undefined_thing.x
undefined_thing['x']
undefined_thing()
d.nothing; d.nothing is defined; d['nothing']; d.C[1].x; d.C[1].x.y
d.nothing.more
d.items; d['items']; d.keys(); d.values(); d.items(); d.get('a'); d.get('zz'); d.get('zz', 5); d.b; d['b']
l[0]; l[-1]; l[5]; l['x']; l[1:]; l[:-1]; l[::-1]; l[::2]; l[5:]; l[-2:]; s[0]; s[-1]; s[1:5]; s[::-1]; s[::3]; uni[2]; uni[::-1]; uni[5:9]; s[100:]
l[0:2:0]
l['a':]
n[0]; n[0:1]
none[0]
none[0:1]
d[1:2]
1 < 2 < 3; 1 < 2 > 3; 1 == 1.0; true == 1; 'a' < 'b'; [1, 2] < [1, 3]; (1, 2) == (1, 2); [1] == (1,); none == none; 'a' == 1; 1 != 2
'a' < 1
none < 1
[1] < [none]
1 in l; 9 in l; 'x' in 'xyz'; 'b' in d; 'zz' not in d; 1 in (1, 2); 'ell' in s; not 1 in l; 1 not in l
1 in 'abc'
1 in 5
1 in none
1 in undefined_thing
'a' in undefined_thing
undefined_thing == undefined_thing; undefined_thing == none; undefined_thing != 1
undefined_thing < 1
'yes' if t else 'no'; 'yes' if no; ('yes' if no) is defined; 1 if 0 else 2 if 0 else 3
t and 'x'; no and 'x'; empty or 'dflt'; nil or 0 or 'z'; not empty
t if t is true else f
s is string; n is number; n is integer; f is float; t is boolean; t is integer; t is number; d is mapping; l is sequence; l is iterable; s is sequence; d is sequence; n is iterable; nil is none; s is mapping; range(3) is sequence; undefined_thing is sequence; undefined_thing is iterable; undefined_thing is mapping
n is odd; n is even; n is divisibleby 7; n is divisibleby(5); 3 is odd; 'ABC' is upper; 'abc' is lower; 'aBc' is lower; '1' is upper
n is eq 42; n is ge(42); n is gt 41; n is lt 43; n is ne 1; n is in [42]; n is sameas n; none is sameas none; 1 is sameas true; 'a' is sameas 'a'
x is defined; x is undefined; s is defined; s is not defined; s is callable; range is callable; undefined_thing is callable; s is escaped; (s|e) is escaped; 'upper' is filter; 'nofilter' is filter; 'odd' is test
s is nonsense
s|nonsense
'%s and %r' % ('a', 'b'); '%d %5d|%-5d|%05d|%+d|%x %X %#x %o' % (1, 2, 3, 4, 5, 255, 255, 255, 8); '%.2f %10.3f|%e %g %g %g' % (3.14159, 2.5, 12345.678, 0.0001, 1e20, 100000)
'%s' % 1; '%s' % [1, 2]; '%(a)s %(b)s' % {'a': 1, 'b': 2}; '%%'; '100%%' % (); '%s' % none; '%s' % (none,); '%c%c' % (65, 'b'); '%5s|%-5s|%.2s' % ('ab', 'cd', 'efg')
'%d' % 'a'
'%s %s' % 'a'
'%s' % (1, 2)
'%d' % 3.7; '%i' % true; '%s' % 3.0
'{} {} {a}'.format(1, 'x', a=2); '{0} {1} {0}'.format('a', 'b'); '{:>5}|{:<5}|{:^5}|{:*^7}'.format('a', 'b', 'c', 'd'); '{:05d} {:,} {:x} {:b} {:.2f} {:e} {:%}'.format(42, 1234567, 255, 5, 3.14159, 12345.6789, 0.25)
'{a.b} {a[b]}'.format(a={'b': 1}); '{!r}'.format('x'); '{{}}'.format(); '{:{}}'.format('a', 5); '{:+} {: } {:-}'.format(1, 2, -3); '{:.3}'.format('abcdef'); '{:10.2f}|'.format(3.14159); '{:g} {}'.format(1e20, 1e20)
'{}'.format()
'{0} {}'.format(1, 2)
'{:d}'.format('a')
'{'.format()
'}'.format()
'{x}'.format(y=1)
'{a[0]} {a[1]}'.format(a=[1, 2]); '{}'.format(none); '{}'.format(true); '{:>6}'.format(true); '{:5}'.format(1.0)
s.upper(); s.lower(); s.title(); s.capitalize(); s.swapcase(); uni.upper(); uni.lower(); uni.title(); uni.capitalize(); uni.casefold(); uni.swapcase()
text.strip(); text.lstrip(); text.rstrip(); 'xxabcxx'.strip('x'); 'xyabcyx'.strip('xy'); 'abc'.lstrip('ab'); 'abc'.rstrip('bc'); uni.strip()
text.split(); text.split(' '); text.split(none, 1); text.rsplit(none, 1); 'a,b,,c'.split(','); 'a,b,,c'.split(',', 1); 'a,b,,c'.rsplit(',', 1); 'a,b,c'.split(',', -1); ''.split(); ''.split(','); 'abc'.split('b', maxsplit=0); 'a--b--c'.rsplit('--', 5)
'abc'.split('')
'abc'.split(1)
lines.splitlines(); lines.splitlines(true); ''.splitlines(); uni.splitlines()
'abc'.startswith('a'); 'abc'.startswith(('x', 'a')); 'abc'.endswith('bc'); 'abc'.startswith('b', 1); 'abc'.endswith('b', 0, 2); 'abc'.startswith('')
'abc'.startswith(1)
'abcabc'.find('c'); 'abcabc'.rfind('c'); 'abc'.find('z'); 'abcabc'.find('a', 1); 'abcabc'.index('b'); 'aXbXc'.count('X'); 'aaa'.count('aa'); 'abc'.count(''); uni.find('🙂'); uni.rfind('x')
'abc'.index('z')
'aXbXc'.replace('X', '-'); 'aXbXc'.replace('X', '-', 1); 'abc'.replace('', '-'); 'aaa'.replace('a', 'aa'); 'abc'.replace('z', 'y'); 'abc'.replace('', '-', 2)
', '.join(['a', 'b']); '-'.join('abc'); ''.join([]); ','.join(d); ','.join(names|map('upper'))
','.join([1, 2])
'a'.center(5) ~ '|'; 'a'.center(4) ~ '|'; 'ab'.center(5, '*'); 'a'.ljust(3) ~ '|'; 'a'.rjust(3); '42'.zfill(5); '-42'.zfill(5); 'a\tb'.expandtabs(4); 'a\tb'.expandtabs()
'abc'.isalpha(); 'ab1'.isalnum(); '12'.isdigit(); '²'.isdigit(); '½'.isnumeric(); '12'.isdecimal(); ' '.isspace(); ''.isspace(); 'aB'.islower(); 'AB'.isupper(); 'Ab Cd'.istitle(); 'abc'.isascii(); uni.isascii(); 'a b'.isidentifier(); 'ab'.isidentifier(); 'a\n'.isprintable()
'a-b-c'.partition('-'); 'a-b-c'.rpartition('-'); 'abc'.partition('x'); 'abc'.rpartition('x'); 'prefix_x'.removeprefix('prefix_'); 'x.txt'.removesuffix('.txt')
l.append(1)
l.append
l.pop(); l; l.pop(0); l; l.pop(9)
l.index(2); l.count(1); l.copy(); l.clear(); l
l.index(99)
l.sort()
l.insert(0, 1)
l.extend([1])
d.update({'z': 1})
d.pop('a')
d.setdefault('a', 1)
d.copy(); dict(a=1, b=2); dict([('x', 1)], y=2); dict(d); {}.fromkeys(['a', 'b'], 0)
s.__class__
s.__class__.__mro__
''.__class__.__base__.__subclasses__()
s._private
d.__len__()
l.__len__
{'a': 1}['a']; {'a': 1, 'a': 2}; {1: 'x', true: 'y'}; {1: 'a', 1.0: 'b'}; {'k': [1, {'z': ()}]}; (1,); (); (1, 2); [1, [2, (3,)]]; {none: 1}
{[1]: 2}
{(1, 2): 3}[(1, 2)]; {1.5: 'x'}[1.5]; [1, 2,]; {'a': 1,}
"it's"; ['it\'s', "say \"x\"", "both ' and \"", 'tab\t nl\n bs\\', 'é🙂\x00\x7f\xa0']; '\x41\u00e9\U0001f642\101\d\
'; ['\u200b\u2028']; "a\
b"
range(5); range(1, 4)|list; range(10, 0, -3)|list; range(3)[1]; range(0)|list; range(5)[1:3]; range(5)|length; 3 in range(5); range(5)|sum; range(2, 8, 2)
range(10 ** 9)
range(1, 2, 0)
range('a')
range(100001)
range(undefined_thing)
l|sort; l|sort(reverse=true); names|sort; names|sort(case_sensitive=true); users|sort(attribute='age')|map(attribute='name')|list; users|sort(attribute='age,name')|map(attribute='name')|list; d|dictsort; d|dictsort(true); {'a': 2, 'b': 1}|dictsort(by='value'); {'a': 2, 'b': 1}|dictsort(false, 'value', true)
mixed|sort
d|dictsort(by='nope')
l|first; l|last; []|first; []|last; []|first is defined; 'abc'|first; 'abc'|last; d|first; d|last; (l|map('string'))|first
(l|map('string'))|last
l|length; s|length; d|length; uni|count; undefined_thing|length; range(4)|length; l|join; l|join(', '); users|join('; ', attribute='name'); 'abc'|join('-'); undefined_thing|join(','); [1, none, undefined_thing, 'x']|join('|')
n|length
none|length
(l|map('string'))|length
l|map('string'); 
l|map('string')|list; names|map('upper')|join(','); users|map(attribute='name')|list; users|map(attribute='admin')|list; users|map(attribute='admin', default=false)|list; users|map(attribute='tags.0')|list; names|map('replace', 'b', 'x')|list; ['1', 'x']|map('int', default=9)|list; undefined_thing|map('upper')|list; none|map('upper')|list
users|map(attribute='tags.0.x')|list
l|map('nofilter')|list
l|map|list
users|map(attr='x')|list
users|selectattr('admin')|list; users|selectattr('admin', 'defined')|map(attribute='name')|list; users|selectattr('age', 'gt', 26)|map(attribute='name')|list; users|selectattr('age', '==', 30)|list|length; users|rejectattr('admin')|map(attribute='name')|list; users|rejectattr('age', 'equalto', 30)|list; l|select('odd')|list; l|reject('odd')|list; mixed|select('string')|list; mixed|select|list; mixed|reject|list; l|select('in', [1, 2])|list; users|selectattr('name', 'in', ['ann'])|list|length
l|select('notest')|list
users|selectattr|list
[1, 1, 2, 'a', 'A', 'b']|unique|list; [1, 1.0, true]|unique|list; names|unique(true)|list; users|unique(attribute='age')|map(attribute='name')|list
l|min; l|max; names|min; names|max; []|min; users|max(attribute='age'); names|max(case_sensitive=true); l|sum; users|sum(attribute='age'); l|sum(start=10); [[1], [2]]|sum(start=[]); [0.1, 0.2]|sum; [1, none]|select|sum
['a']|sum
mixed|min
l|reverse|list; 'abc'|reverse; d|reverse|list; (1, 2)|reverse|list; range(3)|reverse|list; l|reverse; (l|map('string'))|reverse
n|reverse
l|batch(2)|list; l|batch(2, 'x')|list; l|slice(2)|list; range(10)|slice(3)|list; range(10)|slice(3, 'x')|list; range(7)|batch(3)|map('join', '-')|list
users|groupby('age'); users|groupby('age')|map(attribute='grouper')|list; users|groupby('age')|map(attribute='list')|map('length')|list; users|groupby('admin', default=false)|list|length; ['b', 'A', 'a']|groupby(0)|list
d|items|list; undefined_thing|items|list; {}|items|list; d|list; s[:3]|list; none|default('x'); undefined_thing|default('x'); ''|default('x'); ''|default('x', true); none|d('x', true); undefined_thing|d; 0|default(1, boolean=true)
none|items|list
l|items|list
'x'|items
l|list; n|list
5|list
'a b'|upper; 'A B'|lower; 'hello wORLD-foo (bar [baz <qux'|title; 'hELLO'|capitalize; text|trim; 'xxaxx'|trim('x'); 42|upper; none|upper; 3.0|string; l|string; t|string; undefined_thing|upper; uni|upper; uni|title; uni|lower
'abc'|replace('b', 'X'); 123|replace(2, 'x'); 'aaa'|replace('a', 'b', 2); 'aaa'|replace('a', 'b', count=1)
'a\nb\n\nc'|indent; 'a\nb\n\nc'|indent(2, true); 'a\nb\n\nc'|indent(2, true, true); 'a\nb'|indent('> '); 'a\nb\n'|indent(width=3, first=true); ''|indent; 'a'|indent(first=true); lines|indent
5|indent
'foo bar baz qux'|truncate(9); 'foo bar baz qux'|truncate(9, true); 'foo bar baz qux'|truncate(11); 'foo bar baz qux'|truncate(11, false, '...', 0); 'foo bar baz'|truncate(5, true, end='!', leeway=0); 'foobarbaz'|truncate(5, leeway=0)
'a b, c-d e_f'|wordcount; ''|wordcount; 'one two three four five'|wordwrap(10); 'abcdefghijklmno'|wordwrap(5); 'aaa bbb\n\nccc ddd'|wordwrap(4); 'well-known fact'|wordwrap(6); 'abcdefghij kl'|wordwrap(5, false); 'a  b   c'|wordwrap(4)
'abc'|center(9) ~ '|'; 'x'|center; '%s-%s'|format('a', 1); '%(x)s'|format(x=3)
'%s'|format('a', b=1)
'42'|int; 'x'|int; 'x'|int(7); '3.9'|int; 3.9|int; '-3'|int; ' 5 '|int; '0x1f'|int(base=16); '1f'|int(0, 16); '101'|int(base=2); none|int; none|int(default=3); true|int; '1_000'|int; ''|int; '1e3'|int; []|int(5)
'1.5'|float; 'x'|float; 'x'|float(2.5); 3|float; none|float; '1e3'|float; 'inf'|float; 'nan'|float; ' 2.5 '|float
undefined_thing|int
42.55|round; 42.55|round(1); 42.55|round(1, 'floor'); 42.51|round(0, 'ceil'); 2.5|round; 3.5|round; -2.5|round; 1234|round(-2); 1250|round(-2); 1350|round(-2); 2.675|round(2); 5|round; 5|round(1); 1e20|round; 3.14159|round(precision=3)
'a'|round
-5|abs; 3.5|abs; (-5)|abs; -5.5|abs; (neg)|abs; true|abs
'a'|abs
0|filesizeformat; 1|filesizeformat; 999|filesizeformat; 1000|filesizeformat; 1024|filesizeformat(true); 1234567890|filesizeformat; 1e30|filesizeformat; '2048'|filesizeformat(binary=true)
s|e; s|escape; s|escape|escape; s|escape|forceescape; html|striptags; '<!-- c --> x  <b>y</b>'|striptags; s|urlencode; {'a b': 'c&d', 'é': 1}|urlencode; 'a/b c?'|urlencode; [('x', 1)]|urlencode; {'class': 'x', 'id': none, 'q': '"'}|xmlattr; {}|xmlattr
s|safe; (s|safe) + '<x>'; '<x>' + (s|safe); ('<b>'|safe) ~ '<c>'; ('<b>'|safe) * 2; ('<b>%s'|safe) % '<c>'; ('<b>'|safe)|upper; ['<b>'|safe]; ('<b>'|safe).upper(); ('a<b>'|safe)|length; ('<b>'|safe).join(['<', '>']); ('<b>'|safe)|replace('b', '<'); ('<b>'|safe).replace('b', '<'); ('<b>'|safe) == '<b>'; ('a'|safe).format('<'); '%s' % ('<b>'|safe); ('{}'|safe).format('<x>')
d|tojson; l|tojson; s|tojson; uni|tojson; none|tojson; true|tojson; 1.0|tojson; 1e20|tojson; (1, 2)|tojson; {1: 2, none: 3, true: 4, 1.5: 5}|tojson; []|tojson(indent=2); {}|tojson(indent=2); d|tojson(indent=2); d|tojson(indent=0); d|tojson(separators=(',', ':')); d|tojson(separators=[', ', '=']); uni|tojson(ensure_ascii=true); {'b': 1, 'a': {'d': 1, 'c': 2}}|tojson(sort_keys=true); d|tojson(indent='\t'); mixed|tojson(indent=1); '\x00\x1f\x7f"\\/'|tojson; d|tojson(true)
undefined_thing|tojson
[undefined_thing]|tojson
range(3)|tojson
d.items()|tojson
(l|map('string'))|tojson
{(1, 2): 3}|tojson
d|tojson(nope=1)
{1: 2, 'a': 3}|tojson(sort_keys=true)
s|safe|tojson
'abc'|attr('upper'); d|attr('a'); 'x'|attr('upper')()
lipsum is defined; cycler('a', 'b').next(); joiner() is callable; namespace(a=1).a; namespace({'x': 2}).x; namespace(a=1)
cycler()
raise_exception('boom')
raise_exception()
strftime_now('%Y-%m-%d %H:%M:%S %A %a %B %b %d %j %U %W %w %y %p %I %% %e %-d %-m %Z %z %f %c %x %X %D %F %T %R %u %V %G %h %C %s'|replace('%s', ''))
strftime_now()
strftime_now(1)
s(1)
n()
l.0; l.1; nested.1.0; users.0.name; d.C.1
n.real; f.is_integer(); 4.0.is_integer(); n.bit_length()
1 is not none and 2 is not odd; not 3 is odd; 3 is not even
l is not string and l is iterable; 5 is divisibleby 5 and true
(1, 2)[0]; (l)[0]; [l][0][1]; 'abc'[1]; {'a': {'b': 'c'}}.a.b; [1, 2, 3][1:][0]
loop is defined
self is defined
'a' if undefined_thing else 'b'; undefined_thing or 'x'; not undefined_thing; undefined_thing ~ ''; [undefined_thing]; {'a': undefined_thing}; undefined_thing|list; undefined_thing|string; undefined_thing|e
-undefined_thing
-'a'
+n; -n; --n; -f; +true; -true; - -1
1.5.real
[1, 2] == [1, 2.0]; {'a': 1} == {'a': 1.0}; {} == []; 'a' == 'a'|safe; range(3) == range(0, 3); (1, 2) == [1, 2]
'x' * -1; [1] * 0; 'ab' * true; 2 * [1, 2]
'a' * 1.5
[3] - [1]
'a' - 'b'
0 == false; 1 == true; 0 is false; '' == false; none == false; [] == false
9007199254740993; 9223372036854775807; -9223372036854775807; 0.1; 1/3; 2/3; 100.0; 1e100; 1.7976931348623157e308; 5e-324; 123456.789e3; 1e22; 1e21; 12345678912345678.0
messages[0].role; messages[-1]['content']; messages|length; messages|map(attribute='role')|join; messages|last; (messages|first).content; messages[0]; messages|tojson; messages[1:]|tojson
messages[0].content[0]; messages[0]['content'][:1]; messages[0].get('x'); messages[0].get('role', 1); 'role' in messages[0]; messages[5].role
messages[5]
""".strip("\n").replace("\\\n", "\\\x00").split("\n")

SNIPPETS = []
for line in EXPRS:
    line = line.replace("\\\x00", "\\\n")
    parts, depth, quote, cur, i = [], 0, "", "", 0
    while i < len(line):  # split at ";" outside strings
        ch = line[i]
        if quote:
            cur += ch
            if ch == "\\":
                i += 1
                cur += line[i] if i < len(line) else ""
            elif ch == quote:
                quote = ""
        elif ch in "'\"":
            quote = ch
            cur += ch
        elif ch == ";":
            parts.append(cur)
            cur = ""
        else:
            cur += ch
        i += 1
    parts.append(cur)
    SNIPPETS += ["{{ " + x.strip() + " }}" for x in parts if x.strip()]

SNIPPETS += [
    # white space
    "a {{- 1 -}} b", "a\n  {% if true %}\n  x\n  {% endif %}\n b", "a\n  {%- if true -%}\n  x\n  {%- endif %}\n b", "  {% set x = 1 %}\n{{ x }}\n",
    "a\n\n", "a\n", "\n", "\r\na\r\nb\r", "  {#- c -#}  x", "x {# c #}\ny", "  {# c #}  \n y", "a  {%+ if true %}b{% endif +%}\nc", "{% raw %}{{ x }}{% endraw %}",
    "{% raw -%}  {{ x }}  {%- endraw %} y", "  {% raw %}\n x {% endraw %}\n y", "{%- raw -%} {% if %} {%- endraw -%} z", "{{ 'a' }}\n{{ 'b' }}\n\n{{ 'c' }}", "\u00a0 {%- if 1 %}x{% endif %}",
    "{% if true %}\n\n x\n{% endif %}", "  {{ 1 }}  \n  {% if 1 %}  \n  {% endif %}  \n", "\t{% set y = 2 %}\t\n\t{{ y }}", "{{'}}'}}", "{{ {'a': {'b': 1}}['a']['b'] }}", "{% if '%}' == '%}' %}y{% endif %}", "{#", "{{", "{%", "{% raw %}", "{{ 1", "{{ 1 }", "{{ ) }}", "{{ (1] }}", "{{ 'a }}", "{{ 1 ! 2 }}", "{{ $ }}", "{{ }}", "{% %}", "{{ 1 2 }}", "{{ a. }}", "{{ a.1b }}", "{% if %}{% endif %}", "{% endif %}", "{% if true %}", "{% for x in l %}", "{% for in l %}{% endfor %}", "{% unknown %}", "{% include 'x' %}", "{% extends 'x' %}", "{% import 'x' as y %}",
    "{{- '' -}}", "{%- set a = 1 -%} {{- a -}} ", "{{+ 1 }}", "a {{+ 1 }}", "{#+ c #} x", " {#+ c +#}\n x", "a{%- set x = 1 %}\n  b", "{% set x = 1 -%}\n  b",
    # if, set, for
    "{% if n > 50 %}a{% elif n > 40 %}b{% elif n %}c{% else %}d{% endif %}", "{% if nil %}a{% else %}b{% endif %}", "{% if undefined_thing %}a{% endif %}z", "{% if 1, 2 %}t{% endif %}",
    "{% set a, b = 1, 2 %}{{ a }}{{ b }}", "{% set a = 1, 2 %}{{ a }}", "{% set a %}x{{ n }}{% endset %}[{{ a }}]", "{% set a | upper %}x{% endset %}{{ a }}", "{% set a | replace('x', n) | upper %}axb{% endset %}{{ a }}", "{% set (a, (b, c)) = (1, (2, 3)) %}{{ a + b + c }}",
    "{% set a, b = [1] %}", "{% set a, b = 1 %}", "{% set a, b = [1, 2, 3] %}", "{% set a, b = none %}", "{% set a.b = 1 %}", "{% set d.b = 1 %}", "{% set ns = namespace() %}{% set ns.x = 1 %}{{ ns.x }}{{ ns.y }}{{ ns }}", "{% set ns = namespace(c=0) %}{% for i in l %}{% set ns.c = ns.c + i %}{% endfor %}{{ ns.c }}", "{% set x = 1 %}{% for i in l %}{% set x = i %}{{ x }}{% endfor %}{{ x }}", "{% for i in l %}{% if i == 1 %}{% set y = 5 %}{% endif %}{{ y }}|{% endfor %}", "{% if no %}{% set n = 1 %}{% endif %}{{ n }}", "{% if t %}{% set zz = 1 %}{% endif %}{{ zz }}", "{% if no %}{% set zz = 1 %}{% endif %}{{ zz }}|{{ zz is defined }}",
    "{% if no %}{% set n = 1 %}{% else %}{{ n }}{% endif %}{{ n }}", "{% for i in [1] %}{{ n }}{% set n = 2 %}{{ n }}{% endfor %}{{ n }}", "{% for i in [1] %}{{ n }}{% endfor %}{% set n = 3 %}{{ n }}", "{% set n = n + 1 %}{{ n }}", "{{ q }}{% set q = 1 %}{{ q }}", "{% set true = 1 %}", "{% set 1 = 2 %}", "{% set x y = 1 %}",
    "{% for i in l %}{{ i }}{% if not loop.last %},{% endif %}{% endfor %}", "{% for i in l %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.depth }}{{ loop.depth0 }};{% endfor %}", "{% for i in l %}{{ loop.previtem }}<{{ i }}>{{ loop.nextitem }};{% endfor %}", "{% for i in l %}{{ loop.previtem is defined }}{{ loop.nextitem is defined }};{% endfor %}", "{% for i in l %}{{ loop.cycle('a', 'b') }}{% endfor %}", "{% for i in [1, 1, 2] %}{{ loop.changed(i) }}{% endfor %}", "{% for i in l|map('string') %}{{ loop.index }}/{{ loop.length }}{{ loop.last }} {% endfor %}", "{% for i in l %}{{ loop }}{% endfor %}", "{% for i in l %}{{ loop.nope }}{% endfor %}x", "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}", "{% for k in d %}{{ k }}{% endfor %}", "{% for k, v in d|items %}{{ k }}{% endfor %}", "{% for k, v in d|dictsort %}{{ k }}{% endfor %}", "{% for c in s[:4] %}[{{ c }}]{% endfor %}", "{% for c in uni %}[{{ c }}]{% endfor %}", "{% for i in [] %}x{% else %}empty{% endfor %}", "{% for i in undefined_thing %}x{% else %}empty{% endfor %}", "{% for i in none %}x{% endfor %}", "{% for i in 5 %}x{% endfor %}", "{% for a, b in nested[:2] %}{{ a }}-{{ b }};{% endfor %}", "{% for a, b in nested %}{{ a }}{% endfor %}", "{% for a, b in [(1, 2, 3)] %}{{ a }}{% endfor %}", "{% for i in l if i > 1 %}{{ i }}{{ loop.index }}{{ loop.length }}{% endfor %}", "{% for i in l if i > 9 %}{{ i }}{% else %}none{% endfor %}", "{% for a, b in nested[:2] if a > 1 %}{{ a }}{{ b }}{{ loop.previtem }}{% endfor %}", "{% for i in l if loop.index > 1 %}x{% endfor %}", "{% for i in 1, 2, 3 %}{{ i }}{% endfor %}", "{% for i in (1, 2) %}{{ i }}{% endfor %}", "{% for i in t and l %}{{ i }}{% endfor %}", "{% for x in tree recursive %}{{ x.v }}{{ loop.depth }}{% if x.c %}({{ loop(x.c) }}){% endif %}{% endfor %}", "{% for i in l %}{{ loop([1]) }}{% endfor %}", "{% for x in tree recursive %}{{ loop(x.c) }}{% else %}E{% endfor %}", "{% for i in l %}{% for j in l %}{{ loop.index }}{{ i }}{{ j }} {% endfor %}{{ loop.index }}{% endfor %}", "{% for i in l %}{% set outer = loop %}{% for j in [1] %}{{ outer.index }}{{ loop.index }} {% endfor %}{% endfor %}",
    "{% for i in l %}{% if i == 1 %}{% break %}{% endif %}{{ i }}{% endfor %}", "{% for i in l %}{% if i == 1 %}{% continue %}{% endif %}{{ i }}{% endfor %}", "{% for i in l %}{% break %}{% else %}E{% endfor %}", "{% for i in l %}{% continue %}{% else %}E{% endfor %}", "{% break %}", "{% if t %}{% continue %}{% endif %}", "{% for i in l %}{% set x %}a{% break %}b{% endset %}{{ x }}{% endfor %}z", "{% for i in l %}{% with %}{{ i }}{% break %}{% endwith %}{% endfor %}", "{% for loop in l %}{% endfor %}", "{% for i in l %}{% set loop = 1 %}{% endfor %}", "{% for i in l %}{{ i }}{% endfor %}{{ i }}", "{% for n in l %}{{ n }}{% endfor %}{{ n }}", "{% for i in l %}{% else %}x{% endfor %}y", "{% for i in range(3) %}{% for j in range(i) %}{{ j }}{% else %}-{% endfor %}|{% endfor %}", "{% for k, (a, b) in {'x': (1, 2)}.items() %}{{ k }}{{ a }}{{ b }}{% endfor %}", "{% for i in l %}{{ loop.length }}{{ loop.index }}{% endfor %}{{ loop }}", "{% for m in messages %}{{ m.role }}:{{ m['content'] }}\n{% endfor %}", "{% for m in messages[::-1] %}{{ m.role }}{% endfor %}", "{% for i in l: %}{{ i }}{% endfor %}",
    # macros and calls
    "{% macro f(a, b=2) %}{{ a }}-{{ b }}{% endmacro %}{{ f(1) }} {{ f(1, 3) }} {{ f(b=5, a=4) }}", "{% macro f(a) %}[{{ a }}]{% endmacro %}{{ f() }}{{ f(a=none) }}", "{% macro f(a) %}{% endmacro %}{{ f(1, 2) }}", "{% macro f(a) %}{% endmacro %}{{ f(b=1) }}", "{% macro f() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ f(1, 2, x=3) }}", "{% macro f(a) %}{{ varargs|length }}{{ kwargs.items()|list }}{% endmacro %}{{ f(1, 2, 3, z=1) }}", "{% macro f() %}{{ caller() }}{% endmacro %}{% call f() %}in{% endcall %}", "{% macro f() %}{{ caller(1, 2) }}{% endmacro %}{% call(a, b) f() %}{{ a }}+{{ b }}{% endcall %}", "{% macro f() %}{{ caller() }}{% endmacro %}{{ f() }}", "{% macro f() %}x{% endmacro %}{% call f() %}in{% endcall %}", "{% macro f() %}{{ caller is defined }}{% endmacro %}{{ f() }}{% call f() %}{% endcall %}", "{% macro f(n) %}{{ n }}{% if n > 0 %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(3) }}", "{% macro f(x) %}{{ n }}{{ x }}{% endmacro %}{% set n = 7 %}{{ f(1) }}", "{{ f(1) }}{% macro f(x) %}{{ x }}{% endmacro %}", "{% macro f(x, y=x) %}{{ x }}{{ y }}{% endmacro %}{{ f(1) }}{{ f(1, 2) }}", "{% macro f(a, b=1, c) %}{% endmacro %}", "{% macro f(a, a) %}{% endmacro %}", "{% macro f(x) %}{{ x|upper }}{% endmacro %}{{ f('a') ~ f('b') }}{{ f('q')|length }}", "{% macro f() %}  x  {% endmacro %}[{{ f()|trim }}]", "{% macro f(x) %}{% set x = x + 1 %}{{ x }}{% endmacro %}{{ f(1) }}", "{% macro f(x) %}{{ f.name }}{{ f.arguments }}{{ f.catch_kwargs }}{{ f.catch_varargs }}{{ f.caller }}{% endmacro %}{{ f(1) }}{{ f }}", "{% macro a() %}A{{ b() }}{% endmacro %}{% macro b() %}B{% endmacro %}{{ a() }}", "{% for i in l %}{% macro g() %}{{ i }}{% endmacro %}{{ g() }}{% endfor %}", "{% macro outer() %}{% macro inner() %}I{% endmacro %}{{ inner() }}{% endmacro %}{{ outer() }}{{ inner }}", "{% set fs = namespace() %}{% macro m(x) %}<{{ x }}>{% endmacro %}{% set fs.m = m %}{{ fs.m(1) }}", "{{ [1, 2]|map('string')|map('upper')|list }}", "{% macro f(*a) %}{% endmacro %}", "{% macro f(a) %}{{ a }}{% endmacro %}{{ f(*[1]) }}{{ f(**{'a': 2}) }}{{ f(*[3], **{}) }}", "{{ dict(**{'a': 1}) }}{{ range(*[1, 3])|list }}", "{{ dict(a=1, a=2) }}", "{% macro f(caller) %}{{ caller() }}{% endmacro %}", "{% macro f(caller=none) %}{{ caller }}{% endmacro %}{{ f() }}", "{% macro f(x) %}{% if x %}{% set y = 1 %}{% endif %}{{ y }}{% endmacro %}{{ f(1) }}{{ f(0) }}", "{% set y = 9 %}{% macro f(x) %}{% if x %}{% set y = 1 %}{% endif %}{{ y }}{% endmacro %}{{ f(1) }}{{ f(0) }}{{ y }}", "{% macro f(loop) %}{{ loop }}{% endmacro %}{% for i in l %}{{ f(i) }}{% endfor %}", "{% for i in l %}{{ f(i) }}{% endfor %}{% macro f(i) %}{{ i }}{% endmacro %}", "{% call dict() %}{% endcall %}", "{% call 1 %}{% endcall %}", "{% macro f() %}{% for i in [1, 2] %}{{ caller(i) }}{% endfor %}{% endmacro %}{% for x in l %}{% call(y) f() %}{{ x }}{{ y }}{{ loop.index }} {% endcall %}{% endfor %}", "{% macro render(v) %}{% if v is mapping %}{ {%- for k, x in v|items %}{{ k }}:{{ render(x) }}{{ ',' if not loop.last }}{% endfor -%} }{% elif v is sequence and v is not string %}[{% for x in v %}{{ render(x) }}{{ ',' if not loop.last }}{% endfor %}]{% else %}{{ v|tojson }}{% endif %}{% endmacro %}{{ render(d) }}",
    # blocks
    "{% filter upper %}a{{ s[:3] }}{% endfilter %}", "{% filter replace('a', 'b')|upper %}banana{% endfilter %}", "{% filter nofilter %}x{% endfilter %}", "{% with a = 1, b = 2 %}{{ a + b }}{% endwith %}{{ a }}", "{% with %}{% set q = 1 %}{{ q }}{% endwith %}{{ q }}", "{% with n = n + 1 %}{{ n }}{% endwith %}{{ n }}", "{% with a = 1, b = a %}{{ b }}{% endwith %}", "{% generation %}x{{ n }}{% endgeneration %}", "{% for i in l %}{% generation %}{{ i }}{{ loop.index }}{% endgeneration %}{% endfor %}", "{% generation %}{% set q = 1 %}{% endgeneration %}{{ q }}", "{% for i in l %}{% generation %}{% break %}{% endgeneration %}{% endfor %}", "{% block b %}x{{ n }}{% endblock %}", "{% block b %}{{ q }}{% endblock b %}{% set q = 1 %}", "{% set q = 1 %}{% block b %}{{ q }}{% endblock %}", "{% print n, s[:2] %}", "{% print %}", "{% autoescape false %}{{ s }}{% endautoescape %}", "{% do l.append(1) %}", "{% filter trim %}  {% for i in l %}{{ i }}{% endfor %} {% endfilter %}", "{% set x %}{% for i in l %}{{ i }}{% endfor %}{% endset %}{{ x }}{{ x|length }}", "{% set x %}<b>{% endset %}{{ x + '<i>' }}",
    # unknown filters and tests inside if
    "{% if no %}{{ 1|nofilter }}{% endif %}x", "{% if t %}{{ 1|nofilter }}{% endif %}x", "{{ 1|nofilter if no else 2 }}", "{% if no %}{{ 1 is notest }}{% endif %}x", "{% if no %}{% for i in l %}{{ i|nofilter }}{% endfor %}{% endif %}", "{% if 1 is notest %}{% endif %}", "{{ 2 if 'x' is filter else 3 }}", "{% if 'from_json' is filter %}{{ '1'|from_json }}{% endif %}y", "{% if no %}x{% elif no %}{{ 1|nofilter }}{% endif %}", "{% macro m() %}{{ 1|nofilter }}{% endmacro %}",
    # lists, methods, odd places
    "{% set l2 = l + [4] %}{{ l2 }}{{ l }}", "{% set x = l.pop() %}{{ x }}{{ l }}", "{% for i in l %}{% if loop.first %}{% set _ = l.pop() %}{% endif %}{{ i }}{% endfor %}", "{% set g = l|map('string') %}{{ g|list }}{{ g|list }}", "{% set g = l|select('odd') %}{% for x in g %}{{ x }}{% endfor %}{% for x in g %}{{ x }}{% endfor %}{{ 'truthy' if g }}", "{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.next() }}{{ c.next() }}{{ c.current }}{{ c.reset() }}{{ c.current }}", "{% set j = joiner('|') %}{% for i in l %}{{ j() }}{{ i }}{% endfor %}", "{% set it = d.items() %}{{ it|length }}{{ it|list }}{{ it is sequence }}{{ it is iterable }}{{ it[0] is defined }}", "{{ messages|map(attribute='content')|select('string')|join(' / ') }}", "{% set ns = namespace(last=none) %}{% for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}{{ ns.last }}{{ messages[ns.last].content }}", "{{ (messages|selectattr('role', 'equalto', 'user')|list)[-1].content }}", "{% set c = messages[0].content %}{{ c.split('i')[0] if 'i' in c else c }}", "{{ 'x'.join(['a', 'b'])|upper ~ (1 + 2)|string }}", "{{ 1 + 2|abs * 3 }}{{ -1|abs }}{{ 2 ** 2|int }}{{ not 1 == 2 }}{{ 1 ~ 2 + 3 }}{{ 'a' in 'abc' == true }}", "{{ {'a': 1}.items()|list|first|last }}", "{{ users|map(attribute='name')|map('capitalize')|sort|join(', ') }}", "{{ ns is defined }}{% set ns = namespace(x={}) %}{% set ns.x = {'a': 1} %}{{ ns.x.a }}", "{{ ''.join(['a']) if true }}", "{{ [x for x in l] }}", "{{ lambda: 1 }}", "{{ l[0] = 1 }}", "{{ a := 1 }}", "{{ 'a'.b.c }}", "{{ 1.e5 }}", "{{ 1. }}", "{{ .5 }}", "{{ 007 }}", "{{ 1__0 }}", "{{ 0_7 }}", "{{ 'a'\n'b' }}", "{{ \"\\N{BULLET}\" }}", "{{ '\\ud800' }}", "{{ '\\x4' }}", "{{ ünï }}", "{% set ünï = 1 %}{{ ünï }}", "{{ not }}", "{{ is }}", "{{ 1 if }}", "{{ 1 is odd is true }}", "{{ x is not }}", "{{ s | }}", "{{ s|upper() }}", "{{ s|upper(1) }}", "{{ s|join(1, 2, 3) }}", "{{ foo.bar.baz is defined }}", "{{ (foo.bar)|default(1) }}", "{{ foo|default(bar)|default(1) }}", "{{ d.nothing|default('x') }}", "{{ d['a']['b'] is defined }}", "{{ d.a.b.c }}", "{{ loop.index }}", "{% for i in l %}{{ loop['index'] }}{% endfor %}", "{{ [[1, [2]], {'a': (1,)}]|string|length }}",
    "{{ messages | tojson(indent=4) }}", "{{ d | tojson | length }}", "{{ {'a': none, 'b': true, 'c': 1.50, 'd': 'é\"'} | tojson }}", "{% for m in messages if m.role != 'x' %}{{ loop.last }}{% endfor %}", "{{ users | groupby('age') | list | length }}{% for g in users|groupby('age') %}{{ g.grouper }}{{ g.list|length }}{{ g[0] }}{% endfor %}", "{% for age, us in users|groupby('age') %}{{ age }}:{{ us|map(attribute='name')|join('+') }};{% endfor %}",
]


def conversations():
    """Contexts for chat templates: every turn structure, with and without tools, and unusual content."""
    tools = [{"type": "function", "function": {"name": "get_weather", "description": "Weather <of> a \"city\" & more\nline two — é", "parameters": {
        "type": "object", "properties": {"city": {"type": "string", "description": "The city", "enum": ["Paris", "Köln"]}, "days": {"type": "integer", "default": 3, "minimum": 0.5},
        "opts": {"type": "object", "properties": {"units": {"type": ["string", "null"]}, "deep": {"type": "array", "items": {"type": "object", "properties": {"x": {"type": "number"}}}}}}}, "required": ["city"]},
        "return": {"type": "object", "description": "r"}}},
        {"type": "function", "function": {"name": "noargs", "description": "", "parameters": {"type": "object", "properties": {}}}}]
    odd = "Tom & \"Jerry\" <|im_end|> 'x' {{ 1 }} \\n\n\n  ünï🙂 "
    args = {"city": "Köln", "days": 2, "opts": {"units": None, "deep": [{"x": 1.5}]}, "ok": True}

    def call(a, i="call_1", name="get_weather"):
        return {"id": i, "type": "function", "function": {"name": name, "arguments": a}}
    u, a, sy = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}, {"role": "system", "content": "Be  brief.\n"}
    weird = {"role": "user", "content": odd}
    think = {"role": "assistant", "content": "<think>\nhm, well\n</think>\n\nAnswer."}
    reasoned = {"role": "assistant", "content": "Answer.", "reasoning_content": "Because\n", "reasoning": "Because", "thinking": "Because"}
    parts = {"role": "user", "content": [{"type": "text", "text": "part one"}, {"type": "text", "text": "two " + odd}]}
    image = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "what?"}, {"type": "image_url", "image_url": {"url": "x"}}]}
    tool_obj = [u, {"role": "assistant", "content": "", "tool_calls": [call(args)]}, {"role": "tool", "tool_call_id": "call_1", "name": "get_weather", "content": "{\"t\": 20}"}]
    tool_str = [weird, {"role": "assistant", "content": None, "tool_calls": [call("{\"city\": \"Paris\"}", "abcdefghi")]}, {"role": "tool", "tool_call_id": "abcdefghi", "name": "get_weather", "content": "sunny"}]
    tool_two = [sy, u, {"role": "assistant", "content": "Let me see.", "reasoning_content": "two calls", "tool_calls": [call(args, "a00000001"), call({}, "a00000002", "noargs")]},
                {"role": "tool", "tool_call_id": "a00000001", "name": "get_weather", "content": "20"}, {"role": "tool", "tool_call_id": "a00000002", "name": "noargs", "content": "ok <b>"}, {"role": "assistant", "content": "Done."}, u]
    tool_parts = tool_obj[:2] + [{"role": "tool", "tool_call_id": "call_1", "name": "get_weather", "content": [{"type": "text", "text": "x"}]}]
    turns = [[u], [weird], [sy, u], [u, a, weird], [sy, u, a, u, think, u], [u, reasoned, u], [u, reasoned], [parts], [sy, parts, a, u], [image], tool_obj, tool_obj + [a, u], tool_str, tool_two, tool_parts,
             [{"role": "user", "content": ""}], [{"role": "user", "content": None}], [u, {"role": "assistant", "content": ""}], [u, u], [a, u], [{"role": "system", "content": ""}, u], [sy], [], [{"role": "developer", "content": "Dev"}, u], [{"role": "odd", "content": "x"}], [u, a, {"role": "system", "content": "late"}, u], [{"role": "user"}], [u, {"role": "assistant", "tool_calls": [call(args)]}],
             [{"role": "system", "content": [{"type": "text", "text": "sys parts"}]}, u], [u, {"role": "assistant", "content": [{"type": "text", "text": "ans parts"}]}, u], [{"role": "user", "content": "  spaced  \n\n"}, {"role": "assistant", "content": "\n\nlead <think> unclosed"}]]
    extras = [{}, {"tools": tools}, {"add_generation_prompt": False}, {"enable_thinking": False}, {"enable_thinking": True, "thinking": True, "reasoning_effort": "high", "tools": tools, "documents": [{"title": "T", "text": "doc <1>", "content": "c"}]}]
    for m, e in itertools.product(turns, extras):
        yield {"messages": m, "add_generation_prompt": True, "bos_token": "<s>", "eos_token": "</s>", "tools": None, **e}
