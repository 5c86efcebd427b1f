"""The Hangul set: writes hangul.json, the strings, with each string's name. Written by code points where an editor
would silently normalise them.

    python hangul.py > hangul.json
"""

import json
import unicodedata

SENTENCES = {
    "greeting": "안녕하세요, 온돌입니다.",
    "particles": "나는 너를 너에게 너와 너의 너로 너마저 너조차 너까지도",
    "endings": "갔습니다 갔어요 갔다가 갔었더라면 가시겠습니까",
    "no_spaces": "아버지가방에들어가신다",
    "spaced": "아버지가 방에 들어가신다",
    "batchim": "닭 값 넋 앉다 많다 읽다 밟다 곬 핥다 읊다 잃다 없다",
    "rare_syllables": "뷁 쀍 꿹 뛟 휗 쟿 쫡 춗",
    "first_last": "가힣",
    "numbers": "2026년 11월 20일 오후 3시 30분, 1,234,567원 3.14%",
    "units": "10km 5㎏ 30℃ ㈜온돌 ㎡ №1",
    "english_mixed": "LLM을 GPU에서 run하면 latency가 얼마나 되나요?",
    "code": "def 함수(인자: int) -> str:\n    return f\"{인자}번\"\n",
    "json": "{\"이름\": \"온돌\", \"나이\": 3, \"태그\": [\"난방\", \"AI\"]}",
    "url": "https://example.kr/검색?q=온돌&lang=ko#결과",
    "email": "홍길동@example.co.kr",
    "hashtag": "#온돌 @사용자 $변수 *강조* _밑줄_",
    "quotes": "그는 “안녕”이라고 했다. ‘정말?’ 「책」 『제목』 《글》 〈시〉",
    "dots": "음… 그게… ··· ㆍ ・ ‥",
    "exclaim": "정말요?! 대박!!! 헐~~~ ㅋㅋㅋㅋㅋ ㅠㅠ ㅎㅎ ㄷㄷ",
    "consonants": "ㄱ ㄴ ㄷ ㄹ ㅁ ㅂ ㅅ ㅇ ㅈ ㅊ ㅋ ㅌ ㅍ ㅎ ㄲ ㄸ ㅃ ㅆ ㅉ",
    "vowels": "ㅏ ㅑ ㅓ ㅕ ㅗ ㅛ ㅜ ㅠ ㅡ ㅣ ㅐ ㅒ ㅔ ㅖ ㅘ ㅙ ㅚ ㅝ ㅞ ㅟ ㅢ",
    "compat_run": "ㄱㄴㄷㄹㅏㅑㅓㅕ",
    "slang": "ㄹㅇ ㅇㅈ? ㅇㅇ ㄴㄴ ㄱㄱ 넵넵 ㅊㅋㅊㅋ",
    "hanja": "大韓民國 憲法 第一條",
    "hanja_glossed": "온돌(溫突)은 구들(炕)이라고도 한다",
    "three_scripts": "한국어 日本語 ひらがな カタカナ 中文 English Ελληνικά Русский",
    "full_width": "ＡＢＣ １２３ ！？ 온돌　전각　공백",
    "half_width_jamo": "ﾡﾢﾤﾱ ￂￃￆￇ",
    "circled": "㉠㉡㉢ ㉮㉯㉰ ㈀㈁ ㈎㈏ ①②",
    "emoji": "좋아요👍 사랑❤️ 웃음😂 한국🇰🇷",
    "emoji_zwj": "가족👨‍👩‍👧‍👦 개발자👩🏽‍💻 무지개🏳️‍🌈",
    "keycap": "1️⃣번 *️⃣ #️⃣",
    "tabs": "이름\t나이\n홍길동\t20\r\n임꺽정\t30",
    "spaces": "  앞에  두  칸   뒤에   ",
    "newlines": "\n\n첫 줄\n\n\n\n둘째 줄\n",
    "space_kinds": "가\u00a0나\u2003다\u3000라\u200b마\u202f바\ufeff사",
    "markdown": "# 제목\n\n- 항목 **굵게**\n1. `코드`\n\n> 인용\n\n| 가 | 나 |\n|---|---|\n",
    "html": "<p class=\"본문\">안녕 &amp; 잘 가<br/></p>",
    "latex": "$\\sum_{i=1}^{n} 값_i$",
    "roman": "annyeonghaseyo 안녕 an-nyeong",
    "long_word": "국제통화기금구제금융신청발표기념식준비위원회",
    "repeated": "하하하하하하하하하하하하하하하하하하하하",
    "spaced_syllables": "온 돌 은 따 뜻 하 다",
    "syllable_dot": "온.돌.은.따.뜻.하.다",
    "single": "가",
    "single_jamo": "ㄱ",
    "empty": "",
    "space": " ",
    "special_looking": "<s>안녕</s> <|im_end|> <bos> <0x41> ▁온돌",
    "apostrophe": "'온돌' it's 온돌's 'll 'RE",
    "digits_glued": "12345678온돌90123",
    "currency": "₩10,000 ￦5,000 $3 €2 원화",
    "phone": "010-1234-5678 (02)123-4567",
    "proverb": "가는 말이 고와야 오는 말이 곱다. 낮말은 새가 듣고 밤말은 쥐가 듣는다.",
    "news": "정부는 20일 '인공지능 기본법' 시행령을 의결했다고 밝혔다.",
    "dialect": "뭐라카노 밥 뭇나 혼저 옵서예 거시기 워매",
}

CODE_POINTS = {
    # Conjoining Jamo, modern: 한글.
    "jamo": [0x1112, 0x1161, 0x11AB, 0x1100, 0x1173, 0x11AF],
    # Leading consonants alone, then vowels alone, with their fillers.
    "jamo_alone": [0x1100, 0x20, 0x1161, 0x20, 0x115F, 0x1161, 0x20, 0x1100, 0x1160],
    # 15th century: 나랏말ᄊᆞ미 (arae-a has no syllable).
    "old": [0xB098, 0xB78F, 0xB9D0, 0x110A, 0x119E, 0xBBF8],
    # Old letters and a tone mark: ᅌᅦᆼ, ᄒᆞᆫ〮.
    "old_tone": [0x114C, 0x1166, 0x11BC, 0x2C, 0x20, 0x1112, 0x119E, 0x11AB, 0x302E],
    # Jamo Extended-A and -B.
    "extended": [0xA960, 0x119E, 0xD7CB, 0x20, 0xA97C, 0xD7B0, 0xD7FB],
    # A syllable of two followed by a trailing consonant that would join it.
    "open_and_trailing": [0xAC00, 0x11A8, 0x20, 0xAC01],
    # Compatibility letters of the old language.
    "compat_old": [0x3164, 0x3165, 0x317F, 0x3181, 0x3186, 0x318D, 0x318E],
    # Combining marks on Hangul.
    "marks": [0xAC00, 0x0301, 0xB098, 0x20DD, 0xB2E4, 0xFE0F],
    # Hanja outside the basic plane, and a compatibility one.
    "hanja_rare": [0x20000, 0x2A6D6, 0xF900, 0x9FFF],
    # Private use, unassigned, and controls between syllables.
    "strange": [0xAC00, 0xE000, 0xB098, 0x0378, 0xB2E4, 0x7F, 0xB77C, 0x1B, 0xB9C8],
}


def main():
    cases = dict(SENTENCES)
    cases |= {name: "".join(map(chr, points)) for name, points in CODE_POINTS.items()}
    for name in ["greeting", "batchim", "english_mixed", "code"]:
        cases["nfd_" + name] = unicodedata.normalize("NFD", SENTENCES[name])
    cases["nfkd_units"] = unicodedata.normalize("NFKD", SENTENCES["units"])
    # Half in pieces: one word in two forms.
    cases["mixed_forms"] = "한글 " + unicodedata.normalize("NFD", "한글") + " 한" + unicodedata.normalize("NFD", "글")
    lines = (f"  {json.dumps(name)}: {json.dumps(text)}" for name, text in cases.items())
    print("{\n" + ",\n".join(lines) + "\n}")


main()
