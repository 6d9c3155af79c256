"""Code streams that the first release wrote decode for ever, by whatever library comes with later ones."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from contract.codec_suite import make_spec
from leanpacs.codecs.codec import EncodeOptions
from leanpacs.codecs.registry import by_name
from leanpacs.dicom.frames import FrameSpec

# codec, effort, bits stored, signed, samples: stream in base 85
STREAMS = {
    ("jpegxl", 1, 12, 1, 1): (
        "{|YD|7!)l62m%2BGy_W*o1Afk12}*KI3P;EIRya#AVh!&5CI}Ug#YjF`S+nQ=bUTpd*6Gns;USmNs=VV|NsAU@9XaF?uP&G@"
        "A>zkG3T6X?R(#Qud1pDC`pne$^ZZVbMNc!?(T;F@9+8dp)u#2YwdgAd#|dh2q;OCB+38(|8wu_?(Xh}|L^bl_n|T8oNMiS-+"
        "QmBst71ak|fFh|NnFE>+bIE9>&JT#>U2uGB!3gHa2$ij*X3tjg8&q#>U3R#>QR@jE#+rjg7r%8XFrM8yf="
    ),
    ("jpegxl", 1, 16, 0, 1): (
        "0000CN?1%F4GM<}0000KW^{RQYItlQ00000YItlQ00009YItmH3IG5A>}q&yWB&>$Ap8JDiwFV%09XS{7@M4NgabH$12`Z`z"
        "&Qm003bww2oM1xK!pGQKluOuqCUnLbFQ`b-shZi4gp0(L_|bnW@g^^epOXf75xAI!T<jk^)benbFIDiKIfcs2q+>VA|fI)Gx"
        "NUptE#H1;Q#**{{O$Ik1@uaYwf-FIp>^1KoJoU5fPc0nfJY4RaI35|NnpR|NljOj4|e1Ywx|!Ip-V#iin7ah{(*$yzl+0s;a"
        "7CY;0_7Z0smwV`F1uW7j)2Ha0dk_K+JJ8yg!Ndm0!U8yg!NdukdR8yg!N0{"
    ),
    ("jpegxl", 1, 8, 0, 3): (
        "{|YD|5D5qZ0RUJ8OBkD+afAanfCD%nO29b<0RSLGfCvx)B0z-y_wV`dp)u#2Ywdeak|YTMRaI40Rn`Ch|8wu_?(Xh}|M&0t@"
        "1Zg0oNMiKZ;~Vl0aaC1RaMph|NnFE>+bIEhX42P`R}1I=bUTpb8nI)2?14ARaI5h|NsAU@9XaF?uP&O@A>bcG3T6X?Q?IEBn"
        "bgkRaI40)&KwhbMNc!?(V)otN<`JHdfR{UDQP#t&UbltK&c%hyyW<gpn{3M#4xK2_sZhRTWiH6;)A1tD;rWs#wJ;Rxwne3RS"
        "2=6{=8CRaI3~MO9Qq6|IU^MXO>Jt60TQg(_5`3RS2=Wo8yaC_)G^#)Tn-5W)sC1I*0KY()qmga7"
    ),
    ("jpegxl", 2, 12, 1, 1): "{|YD|7!)l62m}EDkN`^(r9y=yRzchy0ARpDL`_JNtdb--o+QbYNs>GRNs_N2NfH",
    ("jpegxl", 2, 16, 0, 1): (
        "0000CN?1%F4GM<}0000KW^{RQYItlQ00000YItlQ00009YItmH3IG5AI%;@qWB&>$Ap8JDiwFb(0FVGn5~V_gBvwJ(9ROg!K"
        "}1bRlB|*>Ii4iRl}VC314)vvAxRP"
    ),
    ("jpegxl", 2, 8, 0, 3): (
        "{|YD|5D5qb0RV6TOA@6*1yUfX5iyL2j$w?k(TY)#7YG#q4Zb6w`%$HJT2fC-<c*`sLoN>ti_~2*b>&%Q7PYm-HMT5a&Mi)57"
        "G?IfH2^kG6y$9yNq&k!OaK-|CV&JAR06nI"
    ),
    ("jpegxl", 7, 12, 1, 1): "{|YD|7!)l62m}EDgaAt@B*sTUK~h|rm~jC=VCREj6IHEL^-fivtLg$(ovEq",
    ("jpegxl", 7, 16, 0, 1): (
        "0000CN?1%F4GM<}0000KW^{RQYItlQ00000YItlQ00009YItmH3IG5AH)?onWB&>$Ap8JDiwFb(0E7TbC?v*5K|xYnnwW6`K"
        "VavBVG~uYRP|0(pR4KuRh_A-"
    ),
    ("jpegxl", 7, 8, 0, 3): (
        "{|YD|5D5qb0RVsjODHwQK1>P<0tzHGB8CysF^n-bS}`i}0-*v3K&%9~qNr$xRdj2Mp)n1^{0swTh5Bi(R$<9f<?Qm{GOD)QS"
        "=qEu#ZX!80_lvlLd1?LKu(6H1+e@822eo+3V@^v"
    ),
    ("htj2k", 1, 12, 1, 1): (
        "|4;u>04YEK000070000600000000000000700006000000000000EBy0sl|{2mk^A000XAQUDA90ssL31q1{@0smY86Cj9?k"
        "dTm&kdTm&kdTmwh=~7W02crOPjF>!N>E53R%LP^FfKASE;BCwkN^q*00000Q~&}0lfVEb2mS*GbN~PVzyK1!022V>0Ect{R{"
        "a8pbO68r6F>kH080G;0(1a_2LNI;0H6RCkV!I`BuSEBiU|{@4o`FBF}DE!*#"
    ),
    ("htj2k", 1, 16, 0, 1): (
        "|4;u>04YEK0000700006000000000000007000060000000000009pH0sl|{2mk^A000XAQUDA90ssL31q1{@0smY86Cj9?k"
        "dTm&kdTm&kdTmwh=~7W02crOPjF>!N>E53R%LP^FfKASE;BCwkN^q*00000Q~&}0lfVEb2mS>IbN~PVzyK1!022V>0Ect{R{"
        "a8pbO68r6F>kH080G;0(1a_2LNI;0H6RCkV!I`BuSEBiU|{@4o`FBF}DE!*#"
    ),
    ("htj2k", 1, 8, 0, 3): (
        "|4;u>053oQ000070000600000000000000700006000000000000RdB0S5sA2LS>9Pyh%30ssI21OHM03;+TE0RaUB1V91*T"
        "mTawP*_-4SXfwCSXfwCSWr+<|6~9c00B>MWo}APNFY{aav(4+GBz$VF8`1K3IG5A003qH0soW05`g^x$8-R|5`g#sM|1$d5`"
        "g&tM|1!H000000Kf@g1fb#ohjake0S9yd006)Vpaj55{Qv@V0J^#WLNovX0H6y*NivxvNs?e<Fqi<ZbL26%00030*#"
    ),
    ("jpegls", 1, 12, 1, 1): (
        "|JeWN03cIPNk&Eh0ssI300006000073J?YX0003j0003j|L6b+00001|JeWc01FTR1^@>E0TBTI_y7$7|Nj6I07C&306_oR0"
        "0;pA00000psW>wuuc(!;#3xbkdz?~g422nK}bpvhe2xP4241>A)uxNhK7WMgoKo|7J`tJAr6AT|Je"
    ),
    ("jpegls", 1, 16, 0, 1): (
        "|JeWN03cIPNk&Eh0ssI300006000073J?YX0003j0003j|L6b+00001|JeWc01FTR1^@>E0TBTI_y7$7|Nj6I07C&306_oR0"
        "0;pA00000psW>wuuc(!;#3xbkdz?~g422nK}bpvhe2xP4241>A)uxNhK7WMgoKo|7J`tJAr6AT|Je"
    ),
    ("jpegls", 1, 8, 0, 3): (
        "|JeWN03cIPNk&Eh0ssI500006000073J3-P0003j0003j|L6b+00001|JeWc01*fP1^@>G0TBQK5dZ@b0RP$m3<CiG0ssR50"
        "0IC&K!CuYrJ@R2Kkn22ecb>6FaQC701OObNPCJxJG(Ohj7R_g2XtI*W@S}XZMNADaVC*R%Kv<(Ov$vWzR81vu~Tifl1U_rLI"
        "D5S"
    ),
    ("jpeg2000", 1, 12, 1, 1): (
        "|4;u>04V?f000070000600000000000000700006000000000000D~u0sm3}3;+NC0RR951ONg5TmS?>VE<$QB>(|Ka%Ew3W"
        "n>^?c_2@4Wo}APMMofZWpZ<AZ*CwmE;TMR|BwI*00000080P?|C8U~=n^0zN#{tykie?ncPHFf+{HGV<P(a62tF-Zz7i)0*D"
        "@OyML6F2_x)SZ6d0?fG8p)C(`1$^>TM7I*#"
    ),
    ("jpeg2000", 1, 16, 0, 1): (
        "|4;u>04V?f0000700006000000000000007000060000000000009pH0sm3}3;+NC0RR951ONg5TmS?>fd6CwB>(|Ka%Ew3W"
        "n>^?c_2@4Wo}APMMofZWpZ<AZ*CwmE;TMR|BwI*0000008sz||C8VNk@ylIB1z{>NHw&~CNKaC#)U^W+*sVjHk;%Vih~F~En"
        "2=3CkWRv8y7`5-un0bThSC4tEMs-_;b@_mMZFP5C7Q"
    ),
    ("jpeg2000", 1, 8, 0, 3): (
        "|4;u>051Rl000070000600000000000000700006000000000000RdB0S5sA2LS>9QUDA90003200aa80smY81VBLlWB?@q0"
        "Yh?SVRU6=AYyqSPjF>!N>D{dAa-SPb7^mGATlmBE;Rp;015yA0000=00IA#&$Ofv+#z|&hA5z0%S$Q|Zq4^MT2}&3(v!xFgu"
        "F+w<L<oyWV$TSt-4z8!1zTJ09=f}!1zTGP*jY+|Je"
    ),
    ("rle", 1, 12, 1, 1): (
        "0ssI2KmY&$OaK4?00000000000000000000000000000000000000000000000000000000000000000`uO_z`uO_!`uh6&1"
        "^^2dAuKmS1|={%Mp0a629%$wwZO~P22EIFZh3@{22fjOaeRl82A!z0zRA?z"
    ),
    ("rle", 1, 16, 0, 1): (
        "0ssI2KmY&$OaK4?00000000000000000000000000000000000000000000000000000000000000000`T+U>`T+U?`U3g`1"
        "^^2dAuKmS1|={%Mp0a629%$wwZO~P22EIFZh3@{22fjOaeRl82A!z0zRA?z"
    ),
    ("rle", 1, 8, 0, 3): (
        "0{{R3KmY&$Z~y=Rpa1{>0000000000000000000000000000000000000000000000000000000000001^^2dAuKmS1|={%M"
        "p0a629%$wwZO~P22EIFZh3@{22fjOaeRl82A!z0zRA?z1_clsCNVrm1}Zf`OIBfQ2AQO<y2a4j22x#UbAE}G2325dc7cqS2B"
        "NLF!_L{{1_~7*D>gw)1}{2AP+Mkk2A-+3zsl9%23KNjc!Q3a23losdxnvm2B)&U$kX2G"
    ),
    ("zstd", 3, 12, 1, 1): (
        "D77#BBvhdS008(4_!jsf_$>H0_(J$4_%Qf8_(u3q_+0pB_>}mc_^SA|_`vwf_}2JM`B?d5`EL1n`Gon8`B3^>`eyoZ`h5C_`"
        "jYyc`>6Y~`@Z|h`_%j2`|+FUg8"
    ),
    ("zstd", 3, 16, 0, 1): (
        "D77#BBvhdS0000B02Tlt04xAE073vI05AYM07d{&09*iP0F(fq0IC4B0Kfpt0M-Ca0ayWJ0d4_#0fYgM0Z;;40%ihn0(=680"
        "+Irq1E>SD1HJ>v1JncG1El*c-~"
    ),
    ("zstd", 3, 8, 0, 3): (
        "D77#BB!2M&000FF3lJ3+8z3PjD=aZKH#|W?M@%IuFEBMaJ3vK7OHff(TU=pgXKZnlnVz4dsj9EEwYtB+#mdXj)z;hKO;T4_U"
        "1DQsZEkaTd47Y0iH?tynNU?)TVQ2oYjAOPdwhY0hm4Vumz<rVr>L#6v$(y!!^p|b)707C-{k4o&?AH"
    ),
    ("deflate", 6, 12, 1, 1): (
        "0aO61{{Z+4_!jsf_$>H0_(J$4_%Qf8_(u3q_+0pB_>}mc_^SA|_`vwf_}2JM`B?d5`EL1n`Gon8`B3^>`eyoZ`h5C_`jYyc`"
        ">6Y~`@Z|h`_%j2`v"
    ),
    ("deflate", 6, 16, 0, 1): (
        "0aO61{{R3B02Tlt04xAE073vI05AYM07d{&09*iP0F(fq0IC4B0Kfpt0M-Ca0ayWJ0d4_#0fYgM0Z;;40%ihn0(=680+Irq1"
        "E>SD1HJ>v1JncG0{"
    ),
    ("deflate", 6, 8, 0, 3): (
        "0e%31{{RIF3lJ3+8z3PjD=aZKH#|W?M@%IuFEBMaJ3vK7OHff(TU=pgXKZnlnVz4dsj9EEwYtB+#mdXj)z;hKO;T4_U1DQsZ"
        "EkaTd47Y0iH?tynNU?)TVQ2oYjAOPdwhY0hm4Vumz<rVr>L#6v$(y!!^p|b)707C-{k2"
    ),
}


def ramp(spec: FrameSpec) -> NDArray[Any]:
    """What is in the streams."""
    row, column, sample = np.indices((spec.rows, spec.columns, spec.samples_per_pixel))
    span = 1 << spec.bits_stored
    values = (37 * row * row + 11 * column + 5 * sample) % span
    least = -(span // 2) if spec.pixel_representation else 0
    kind = "i" if spec.pixel_representation else "u"
    frame = (values + least).astype(f"{kind}{spec.bits_allocated // 8}")
    return frame[..., 0] if spec.samples_per_pixel == 1 else frame


@pytest.mark.parametrize("key", STREAMS, ids=str)
def test_old_streams_decode(key: tuple[str, int, int, int, int]) -> None:
    name, effort, stored, signed, samples = key
    allocated = 8 if stored == 8 else 16
    spec = make_spec(6, 7, allocated=allocated, stored=stored, samples=samples, pixel_representation=signed)
    stream = base64.b85decode(STREAMS[key])
    np.testing.assert_array_equal(by_name(name).decode(stream, spec, EncodeOptions(effort, stored)), ramp(spec))
